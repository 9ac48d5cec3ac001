"""Laws of architectures. B batch, C channels, K outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve

from seg.convert import dump_json, from_data, to_data
from seg.kinds import Architecture, Prunable
from seg.models import Topology
from seg.testing._check import Check, expect
from seg.testing._samples import SHAPES, Shape

if TYPE_CHECKING:
    import torch

CHANNELS, OUTPUTS = 2, 3
ROUGHLY = 5  # an estimate of memory may be wrong by so much: a planner works with factors of that order
CLOSE = 1e-3  # of the largest value; batches of another size are summed in another order


def _topology(architecture: Architecture, shape: Shape) -> Topology:
    return architecture.topology(shape[0], shape[1], CHANNELS, OUTPUTS)


def _small(architecture: Architecture) -> tuple[Topology, tuple[int, ...]]:
    """The topology of the flat shape, and its patch."""
    return _topology(architecture, SHAPES["2-D"]), SHAPES["2-D"][2]


def _network(architecture: Architecture, topology: Topology, seed: int = 0) -> torch.nn.Module:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return architecture.build(topology)


def _images(batch: int, patch: Sequence[int]) -> torch.Tensor:
    import torch

    return torch.randn(batch, CHANNELS, *patch, generator=torch.Generator().manual_seed(1))


def _predicted(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    import torch

    with torch.no_grad():
        found: torch.Tensor = network.eval()(images)[0]
    return found


def _same(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return bool((found - wanted).abs().max() <= CLOSE * wanted.abs().max().clamp_min(1e-6))


def _topologies(architecture: Architecture) -> Iterator[tuple[str, Topology, tuple[int, ...]]]:
    for name, shape in SHAPES.items():
        topology = _topology(architecture, shape)
        yield name, topology, shape[2]
        if topology.deep_supervision:
            yield f"{name}, without deep supervision", evolve(topology, deep_supervision=False), shape[2]


def _check_outputs(outputs: Any, topology: Topology, patch: Sequence[int], name: str) -> None:
    expect(isinstance(outputs, list | tuple) and len(outputs), f"{type(outputs).__name__} ({name})",
           "a list of logits, not empty")
    first = tuple(outputs[0].shape[1:])
    expect(first == (topology.outputs, *patch), f"a first output of {first} for the patch {tuple(patch)} ({name})",
           f"{(topology.outputs, *patch)}")
    for output in outputs:
        size = tuple(output.shape[2:])
        fits = len(size) == len(patch) and all(0 < n <= m for n, m in zip(size, patch, strict=True))
        expect(fits and output.shape[1] == topology.outputs, f"an output of {tuple(output.shape)} ({name})",
               f"{topology.outputs} maps, of the patch {tuple(patch)} or coarser")
        expect(bool(output.isfinite().all()), f"logits that are no finite numbers ({name})", "finite ones")


def outputs(architecture: Architecture) -> None:
    for name, topology, patch in _topologies(architecture):
        found = _network(architecture, topology).train()(_images(2, patch))
        _check_outputs(found, topology, patch, name)
        weights = architecture.loss_weights(topology)
        expect(len(found) == len(weights), f"{len(found)} outputs in training, {len(weights)} loss weights ({name})",
               "as many of one as of the other")


def loss_weights(architecture: Architecture) -> None:
    for name, topology, _ in _topologies(architecture):
        weights = architecture.loss_weights(topology)
        expect(weights and abs(sum(weights) - 1) < 1e-6 and min(weights) >= 0, f"loss weights {weights} ({name})",
               "weights of 0 or more that sum to 1")


def prediction(architecture: Architecture) -> None:
    import torch

    for name, topology, patch in _topologies(architecture):
        with torch.no_grad():
            _check_outputs(_network(architecture, topology).eval()(_images(1, patch)), topology, patch, name)


def gradient(architecture: Architecture) -> None:
    for name in ("2-D", "anisotropic 3-D"):
        network = _network(architecture, _topology(architecture, SHAPES[name])).train()
        sum(output.square().mean() for output in network(_images(2, SHAPES[name][2]))).backward()
        trained = [(key, one) for key, one in network.named_parameters() if one.requires_grad]
        dead = [key for key, one in trained if one.grad is None or not bool(one.grad.isfinite().all())]
        expect(trained and not dead, f"no gradient in {', '.join(dead[:5]) or 'any parameter'} ({name})",
               "a finite gradient in every parameter")


def deterministic(architecture: Architecture) -> None:
    topology, patch = _small(architecture)
    first = _network(architecture, topology)
    second = _network(evolve(architecture), from_data(to_data(topology), Topology))  # type: ignore[misc]
    ours, theirs = first.state_dict(), second.state_dict()
    expect(list(ours) == list(theirs), "weights of other names at the second building", "the same")
    differ = [name for name in ours if not ours[name].equal(theirs[name])]
    expect(not differ, f"other values of {', '.join(differ[:5])} from the same seed", "the same")
    images = _images(2, patch)
    expect(_predicted(first, images).equal(_predicted(second, images)), "other logits from the same weights",
           "the same")


def batch(architecture: Architecture) -> None:
    for name in ("2-D", "anisotropic 3-D"):
        network = _network(architecture, _topology(architecture, SHAPES[name]))
        images = _images(2, SHAPES[name][2])
        together = _predicted(network, images)
        for index in range(2):
            alone = _predicted(network, images[index : index + 1])
            expect(_same(alone[0], together[index]), f"logits of one sample that depend on its neighbours ({name})",
                   "in eval() each sample by itself")


def memory_grows(architecture: Architecture) -> None:
    for name, shape in SHAPES.items():
        topology, patch = _topology(architecture, shape), shape[2]
        sizes = [architecture.feature_map_size(topology, [n * factor for n in patch], OUTPUTS) for factor in (1, 2)]
        expect(0 < sizes[0] < sizes[1], f"{sizes[0]} values for {patch}, {sizes[1]} for twice as long axes ({name})",
               "more for more voxels")


def _count(counted: list[int]) -> Callable[..., None]:
    """A hook that adds how many values a module gave."""

    def hook(_module: Any, _inputs: Any, output: Any) -> None:
        counted.append(output.numel())

    return hook


def memory_truth(architecture: Architecture) -> None:
    import torch
    from torch import nn

    kinds = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
    for name in ("2-D", "anisotropic 3-D"):
        topology, patch = _topology(architecture, SHAPES[name]), SHAPES[name][2]
        network, counted = _network(architecture, topology).train(), list[int]()
        for module in network.modules():
            if isinstance(module, kinds):
                module.register_forward_hook(_count(counted))
        with torch.no_grad():
            network(_images(2, patch))
        told, truth = architecture.feature_map_size(topology, patch, OUTPUTS), sum(counted) / 2
        expect(truth / ROUGHLY <= told <= truth * ROUGHLY, f"feature_map_size {told} ({name})",
               f"about {truth:.0f}, which its convolutions give, by a factor of {ROUGHLY} at most")


def state(architecture: Architecture) -> None:
    from safetensors.torch import load, save

    from seg.checkpoint import separate

    topology, patch = _small(architecture)
    trained, other = _network(architecture, topology), _network(architecture, topology, seed=1)
    other.load_state_dict(load(save(separate(trained.state_dict()))))
    images = _images(1, patch)
    expect(_predicted(other, images).equal(_predicted(trained, images)), "other logits after saving and loading",
           "the same: all that it learnt is in its state")


def topology(architecture: Architecture) -> None:
    import json

    for name, shape in SHAPES.items():
        found, (kernels, strides, _) = _topology(architecture, shape), shape
        asked = (kernels, strides, CHANNELS, OUTPUTS)
        given = (found.kernels, found.strides, found.in_channels, found.outputs)
        expect(given == asked, f"kernels, strides, channels, outputs {given} ({name})", f"{asked}, as asked")
        counts = len(found.features), len(found.blocks), len(found.decoder_blocks) + 1
        expect(set(counts) == {len(kernels)}, f"features, blocks, decoder blocks for {counts} stages ({name})",
               f"{len(kernels)}, one less for the decoder")
        again = from_data(json.loads(dump_json(found)), Topology)
        expect(again == found, f"{again} from its file ({name})", f"{found}")


def levels(architecture: Architecture) -> None:
    if not isinstance(architecture, Prunable):
        return
    topology, patch = _small(architecture)
    names = architecture.levels(topology)
    expect(names and len(set(names)) == len(names), f"levels {names}", "at least one, each with a name of its own")
    network, images = _network(architecture, topology), _images(1, patch)
    whole = _predicted(network, images)
    expect(_predicted(architecture.prune(network, names[-1]), images).equal(whole), "other logits at the last level",
           "those of the whole network")
    counts = [sum(one.numel() for one in architecture.prune(network, name).parameters()) for name in names]
    expect(counts == sorted(counts), f"parameters {counts} of the levels {names}", "the cheapest level first")
    for name in names:
        _check_outputs([_predicted(architecture.prune(network, name), images)], topology, patch, name)


def _check(name: str, law: Any, reason: str) -> Check:
    return Check(id=f"architecture-{name}", kind="architecture", reason=reason, law=law)


CHECKS = (
    _check("outputs", outputs, "The loss meets every output with its weight, the first at the size of the patch."),
    _check("loss-weights", loss_weights, "Losses of different networks compare only if their weights sum to 1."),
    _check("prediction", prediction, "Prediction takes the first output of the network in eval() mode."),
    _check("gradient", gradient, "A parameter without a gradient never learns, but counts as a part of the model."),
    _check("deterministic", deterministic, "A model is loaded by building it again from options and topology alone."),
    _check("batch", batch, "A case must not be predicted otherwise because of what else is predicted."),
    _check("memory-grows", memory_grows, "A planner enlarges patches until the memory is used up, and must end."),
    _check("memory-truth", memory_truth, "A plan made from a wrong estimate does not fit into memory, or wastes it."),
    _check("state", state, "Weights are stored as safetensors; what is not in the state is lost with the training."),
    _check("topology", topology, "Plans are stored as JSON, and the stages are the planner's to choose."),
    _check("levels", levels, "What is pruned from a network must be a part of it, the cheapest part first."),
)
