"""One forward pass on one thread of a CPU: torch as prediction uses it, plain torch, OpenVINO; processor time.

python benchmarks/cpu_backends.py unet|unetpp|resenc FEATURES STAGES Z,Y,X        (pip install openvino)
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import openvino
import torch

from seg.device import autocast, keep_freed_memory
from seg.discovery import discover
from seg.model import ready
from seg.onednn import direct_convolutions

REPEATS, CPU = 4, torch.device("cpu")


class First(torch.nn.Module):
    """The output that is used at prediction."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Images (B, C, *patch) to logits (B, K, *patch)."""
        logits: torch.Tensor = self.network(image)[0]
        return logits


def main() -> None:
    """Measure in turn and print the best of each."""
    name, features, stages, patch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].split(",")
    torch.set_num_threads(1)
    keep_freed_memory()
    architecture, _ = discover().build("architecture", name, {"features": features})
    topology = architecture.topology([[3] * 3] * stages, [[1] * 3] + [[2] * 3] * (stages - 1), 1, 3)
    torch.manual_seed(0)
    network = First(architecture.build(topology).eval())
    image = torch.randn(1, 1, *map(int, patch))
    ways = through_openvino(network, image)  # traced before the weights lie channels last, which it would copy
    ready(network, CPU)
    for mode in ("off", "on"):
        ways[f"torch, 16 bits {mode}"] = lambda mode=mode: through_torch(network, image, mode)
    ways["torch, 16 bits off, its own convolutions"] = lambda: through_torch(network, image, "off", direct=False)
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(REPEATS):
        for way, call in ways.items():
            started = time.process_time()
            call()
            best[way] = min(best[way], time.process_time() - started)
    for way, seconds in best.items():
        print(f"{way}: {1000 * seconds:.0f} ms", flush=True)


def through_torch(
    network: torch.nn.Module, image: torch.Tensor, mode: str, *, direct: bool = True
) -> torch.Tensor:  # fmt: skip
    """Logits as prediction makes them, where convolutions are `direct`."""
    with torch.inference_mode(), autocast(CPU, mode), direct_convolutions(CPU, single=direct and mode == "off"):
        return network(image)


def through_openvino(network: torch.nn.Module, image: torch.Tensor) -> dict[str, Callable[[], object]]:
    """The network converted by way of `torch.export`, which is several times faster than tracing it."""
    started = time.process_time()
    with torch.no_grad():
        converted = openvino.convert_model(torch.export.export(network, (image,)))
    ways: dict[str, Callable[[], object]] = {}
    for precision in ("f32", "bf16"):
        compiled = openvino.Core().compile_model(converted, "CPU", {
            "INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1})
        request = compiled.create_infer_request()
        ways[f"OpenVINO {precision}"] = lambda request=request: request.infer(
            {0: image.numpy()}, share_inputs=True, share_outputs=True)
    print(f"converted and compiled: {time.process_time() - started:.1f} s")
    return ways


if __name__ == "__main__":
    main()
