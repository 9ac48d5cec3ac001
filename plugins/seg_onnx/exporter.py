"""A model as ONNX: a file for each network, and `model.json`, which says what is to be done before and after them."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from seg import Configuration, Exit, Record, SegError, option
from seg_onnx._description import describe

if TYPE_CHECKING:
    from torch import nn

    from seg import Model

PACKAGES = ("onnx", "onnxscript")
IMAGE, LOGITS = "image", "logits"


@frozen(kw_only=True)
class OnnxExporter:
    """Each network as `weights/<configuration>_fold_<k>.onnx`, from an image to logits, and `model.json` beside.

    The input `image` is float32 (B, C, *patch), the output `logits` float32 (B, K, *patch); the batch is free, the
    patch is the plan's.
    """

    opset: int = option(18, "version of ONNX's operators", ge=18, le=23)

    def export(self, model: Model, folder: Path) -> tuple[Path, ...]:
        """Write the networks and their description into `folder`; see `seg.Exporter`."""
        if missing := [name for name in PACKAGES if find_spec(name) is None]:
            raise SegError(Record(code="SEG-P04", found=f"{' and '.join(missing)} not installed here",
                                  advice="pip install segplug[onnx]"), Exit.PLUGIN)
        files: dict[str, list[Path]] = {}
        for name, networks in model.networks.items():
            folds = [member.fold for member in model.description.members if member.configuration == name]
            for fold, network in zip(folds, networks, strict=True):
                file = folder / "weights" / f"{name}_fold_{fold}.onnx"
                file.parent.mkdir(exist_ok=True)
                self._write(network, model.description.configurations[name], file)
                files.setdefault(name, []).append(file)
        names = {name: [file.relative_to(folder).as_posix() for file in mine] for name, mine in files.items()}
        text = json.dumps(describe(model, names), indent=2, ensure_ascii=False)
        (folder / "model.json").write_text(text + "\n", encoding="utf-8")
        return folder / "model.json", *(file for mine in files.values() for file in mine)

    def _write(self, network: nn.Module, configuration: Configuration, file: Path) -> None:
        """One network, from a batch of patches to the logits that predictions are made of."""
        import onnx
        import torch

        plain = deepcopy(network)
        for parameter in plain.parameters():  # with channels last torch fixes the size of the batch
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)

        class First(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.network = plain

            def forward(self, image: torch.Tensor) -> torch.Tensor:
                logits: torch.Tensor = self.network(image)[0]
                return logits

        device = next(network.parameters()).device
        example = torch.zeros(2, configuration.topology.in_channels, *configuration.patch, device=device)
        with _quiet():
            torch.onnx.export(First().eval(), (example,), file, dynamo=True, opset_version=self.opset,
                              input_names=[IMAGE], output_names=[LOGITS], external_data=False, verbose=False,
                              dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
        found = onnx.load(file)
        onnx.checker.check_model(found)
        if not found.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
            raise ValueError(f"torch fixed the size of the batch in {file.name}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter says of its own parts."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
