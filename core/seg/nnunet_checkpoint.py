"""What a checkpoint of nnU-Net holds, read without running any of it.

nnU-Net 2.8 saves a pickle, as torch does: tensors and plain values, and numpy's scalars in its logs. It is read by
torch's restricted unpickler, which makes tensors and plain values and refuses everything else. Not even numpy is
called: something inert takes the place of its scalars, which nobody needs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from attrs import frozen
from torch import Tensor

from seg.errors import Exit, Record, SegError

ZIP_START = b"PK\x03\x04"
NUMPY = ("numpy.dtype", "numpy.ndarray",
         *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")))
WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+")  # of distributed training, and of torch.compile


@frozen(kw_only=True, eq=False)
class Checkpoint:
    """What a prediction needs of a checkpoint: trainer and configuration by name, mirror axes of the patch, weights."""

    trainer: str
    configuration: str
    mirror_axes: tuple[int, ...]
    weights: dict[str, Tensor]


class _Inert:
    """Stands for what numpy would make of the same values."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint `path` of nnU-Net 2; its tensors on the CPU, by nnU-Net's names.

    Raises:
        SegError: it is cut or damaged, it is no checkpoint of nnU-Net, or it asks for more than data, of which nothing
            was run (exit 7); it cannot be opened (exit 2).
    """
    content = _load(path)
    content = content if isinstance(content, dict) else {}
    weights, arguments = content.get("network_weights"), content.get("init_args")
    configuration = arguments.get("configuration") if isinstance(arguments, dict) else None
    axes = content.get("inference_allowed_mirroring_axes") or ()  # None: the trainer forbids mirroring
    for what, fits in (
        ("network_weights", isinstance(weights, dict) and weights and all(map(_is_weight, weights.items()))),
        ("init_args.configuration", isinstance(configuration, str) and re.fullmatch(r"[\w.-]+", configuration)),
        ("inference_allowed_mirroring_axes",
         isinstance(axes, tuple | list) and all(type(axis) is int for axis in axes) and len(set(axes)) == len(axes)),
    ):
        if not fits:
            raise _refusal(path, f"no checkpoint of nnU-Net 2: `{what}` is missing, or not what it is there")
    return Checkpoint(trainer=str(content.get("trainer_name", "")), configuration=str(configuration),
                      mirror_axes=tuple(sorted(axes)),
                      weights={WRAPPERS.sub("", name): value for name, value in (weights or {}).items()})


def _is_weight(item: tuple[object, object]) -> bool:
    name, value = item
    return isinstance(name, str) and isinstance(value, Tensor) and value.device.type == "cpu"


def _load(path: Path) -> Any:
    """The plain values and tensors in `path`."""
    _require_archive(path)
    try:
        with torch.serialization.safe_globals([(_Inert, name) for name in NUMPY]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - on bad content torch raises what it likes
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked:
            raise _refusal(path, f"it asks for {asked[1]}, which is no data; nothing of it was run",
                           "tensors and plain values", "Ask for the checkpoint as nnU-Net wrote it.") from None
        raise _damaged(path, type(error).__name__) from None


def _require_archive(path: Path) -> None:
    """Older formats are not opened at all, for nnU-Net 2 has never written them; nor is what swells on unpacking."""
    try:
        with path.open("rb") as stream:
            start = stream.read(len(ZIP_START))
    except OSError as error:
        raise SegError(Record(code="SEG-C03", found=error.strerror or str(error), file=str(path)),
                       Exit.USAGE) from None
    if start != ZIP_START:
        raise _refusal(path, "no checkpoint of nnU-Net 2", "a zip archive, as torch writes it")
    try:
        with ZipFile(path) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
            swells = unpacked > path.stat().st_size
            damaged = None if swells else archive.testzip()  # torch itself does not look at the check sums
    except Exception as error:  # noqa: BLE001 - so does zipfile
        raise _damaged(path, type(error).__name__) from None
    if swells:
        raise _refusal(path, f"an archive that unpacks to {unpacked} bytes", "one without compression")
    if damaged:
        raise _damaged(path, f"the check sum of {damaged!r}")


def _damaged(path: Path, sign: str) -> SegError:
    return _refusal(path, f"it cannot be read, for it is cut or damaged ({sign})", "",
                    "Copy it again from where it came.")


def _refusal(path: Path, found: str, expected: str = "", advice: str = "") -> SegError:
    record = Record(code="SEG-M07", found=found, expected=expected, advice=advice, file=str(path))
    return SegError(record, Exit.UNSAFE)
