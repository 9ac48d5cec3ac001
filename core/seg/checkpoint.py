"""The state of a training, saved so that it can be resumed exactly, whatever happens meanwhile.

A state is one safetensors file with its numbers in the header, and its SHA-256 in the name: a torn or altered file is
recognised before it is read, and the one before it is taken. The two newest are kept. Nothing is ever unpickled.
"""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from seg.errors import Exit, Record, SegError
from seg.files import digest_file, whole_file

KEPT = 2


def save_state(folder: Path, step: int, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> Path:
    """Save the state after `step` steps as `state_<step>_<digest>.safetensors`; older ones than the last are removed.

    Raises:
        SegError: the disk is full or not writable (exit 5); what was there before stays.
    """
    with whole_file(folder / f"state_{step:08d}.safetensors") as temporary:
        try:
            save_file(separate(tensors), temporary, metadata={"numbers": json.dumps(numbers)})
        except SafetensorError as error:  # its way to say that the disk is full
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else errno.EIO, str(error)) from error
        digest = digest_file(temporary)
    saved = folder / f"state_{step:08d}.safetensors"
    final = saved.replace(folder / f"state_{step:08d}_{digest[:32]}.safetensors")
    torn = [*folder.glob(".state_*"), *folder.glob("state_????????.safetensors")]  # of a run killed while it saved
    for old in (*_states(folder)[KEPT:], *torn):
        old.unlink(missing_ok=True)
    return final


def separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors on the CPU, of which no two share memory: networks with tied weights have such."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().contiguous().cpu()
        place = plain.untyped_storage().data_ptr()
        found[name] = plain.clone() if place in seen else plain
        seen.add(place)
    return found


def newest_state(folder: Path) -> Path | None:
    """The newest state in `folder` whose content is what it was when it was saved, or None."""
    for path in _states(folder):
        if digest_file(path)[:32] == path.stem.rpartition("_")[2]:
            return path
    return None


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and numbers of a state."""
    with safe_open(path, framework="pt") as stored:
        numbers = json.loads(stored.metadata()["numbers"])
        return {name: stored.get_tensor(name) for name in stored.keys()}, numbers  # noqa: SIM118 - no mapping


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and numbers that an optimiser keeps for each parameter, by name.

    Raises:
        SegError: it keeps something else, from which no training could be resumed (exit 6).
    """
    tensors, numbers = {}, {}
    for index, values in optimizer.state_dict()["state"].items():
        for key, value in values.items() if isinstance(values, dict) else [("", values)]:
            name = f"optimizer.{index}.{key}"
            if isinstance(value, Tensor):
                tensors[name] = value
            elif value is None or isinstance(value, int | float):
                numbers[name] = value
            else:
                raise SegError(Record(
                    code="SEG-P03", found=f"the recipe's optimiser {type(optimizer).__name__} keeps a "
                    f"{type(value).__name__} in its state ({key or index})", expected="tensors and numbers, for each "
                    "parameter", advice="Its training could not be resumed: choose another recipe.",
                ), Exit.PLUGIN)
    return tensors, numbers


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], numbers: dict[str, Any]
) -> None:
    """Put back what `optimizer_state` took, laid out as the parameters are; other tensors are left."""
    state: dict[int, dict[str, Any]] = {}
    for name, value in {**tensors, **numbers}.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            same = isinstance(value, Tensor) and value.shape == parameter.shape
            if same and value.stride() != parameter.stride():  # CUDA would take them one by one
                values[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _states(folder: Path) -> list[Path]:
    """Finished states, newest first."""
    return sorted(folder.glob("state_????????_*.safetensors"), reverse=True)
