"""The memory that the prediction of a case takes, told before it is taken.

But for `SMALL`, what is counted is surely alive at the same time, so that what fits is not refused: copies of channels
while they are prepared, the finest feature maps of one pass, the maps of all outputs, what they become on the image's
own grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from numpy.typing import NDArray

from seg.cropping import bounding_box, nonzero_mask
from seg.device import free_memory
from seg.errors import Exit, Record, SegError
from seg.images import geometry_of
from seg.models import CaseProperties, Configuration, Plan, Size3, Spacing3
from seg.preprocessing import resampling_of
from seg.room import Room

CGROUPS = Path("/sys/fs/cgroup")
FLOAT = 4  # bytes
SMALL = 16_000_000  # bytes, of all that is not as large as the image: slabs, oneDNN's kernels, holes of the heap
FINEST_MAPS = 5  # of a pass are alive at once: a skip, the two that are joined, and what becomes of them


@frozen(kw_only=True)
class Peak:
    """Bytes of the machine's memory that each part of a prediction takes, beyond the image as it was read."""

    preparing: int
    predicting: int
    restoring: int
    maps: int  # of them, in the last two

    @property
    def bytes(self) -> int:
        """The most that is taken at a time."""
        return SMALL + max(self.preparing, self.predicting, self.restoring)


@frozen(kw_only=True)
class Demand:
    """How a configuration predicts, as far as memory is concerned.

    The network sees `at_once` images, whose values have `value_bytes`; 0: it sees them on another device. `goes`: the
    image is overwritten, and goes once it is prepared.
    """

    plan: Plan
    configuration: Configuration
    room: Callable[[Size3], Room]  # of maps, by the size of the prepared image
    at_once: int
    value_bytes: int
    folds: int = 1
    half_sums: bool = False
    goes: bool = False
    probabilities: bool = False

    def peak(self, shape: tuple[int, ...], spacing: Spacing3, box: tuple[Size3, Size3]) -> Peak:
        """What an image of `shape` (C, Z, Y, X) takes, which is cropped to `box` (of the plan's axes)."""
        channels, z, y, x = shape
        properties = CaseProperties(case="", spacing=spacing, shape=(z, y, x), crop_start=box[0], crop_stop=box[1])
        size, _, _ = resampling_of(properties, self.plan, self.configuration)
        maps, new = self._maps(size), math.prod(size)
        image, cropped = channels * z * y * x, math.prod(properties.cropped_shape)
        outputs, ids = self.configuration.topology.outputs, z * y * x
        given_back = FLOAT * image if self.goes else 0
        copy = 0 if self.goes else channels * cropped
        resampled = 0 if size == properties.cropped_shape else channels * new
        return Peak(
            preparing=FLOAT * max(cropped, copy, copy + resampled),
            predicting=self._predicting(new) + maps - given_back,
            restoring=maps + (FLOAT * outputs * ids if self.probabilities else ids) - given_back,
            maps=maps,
        )

    def _maps(self, size: Size3) -> int:
        """Those in the machine's memory; several folds are combined there, two of them being there at a time."""
        device = self.room(size).device
        if device is None or device.type != "cpu":
            return 0
        voxels = math.prod(max(n, p) for n, p in zip(size, self.configuration.patch3, strict=True))
        value = (2 if self.half_sums else FLOAT) if self.folds == 1 else 2 * FLOAT
        return value * voxels * self.configuration.topology.outputs

    def _predicting(self, voxels: int) -> int:
        """A prepared image, and beside it one pass of the network or, after the last one, the sum of weights."""
        topology, tile = self.configuration.topology, self.at_once * math.prod(self.configuration.patch)
        if not self.value_bytes:
            return 0
        network = tile * (FINEST_MAPS * topology.features[0] * self.value_bytes + FLOAT * topology.outputs)
        return FLOAT * topology.in_channels * voxels + max(network, (2 if self.half_sums else FLOAT) * voxels)


def refuse_too_large(array: NDArray[Any], spacing: Spacing3, demand: Demand, case: str = "") -> None:
    """Refuse an image (C, Z, Y, X) of `spacing` (z, y, x) in mm whose prediction takes more memory than is free.

    Raises:
        SegError: it does (SEG-R04, exit 5), with what helps here.
    """
    image = array.transpose(0, *(1 + axis for axis in demand.plan.transpose_forward))
    peak = demand.peak(array.shape, spacing, ((0, 0, 0), (image.shape[1], image.shape[2], image.shape[3])))
    available = available_memory()
    if peak.bytes > available:  # only then it matters what is cropped away
        peak = demand.peak(array.shape, spacing, bounding_box(nonzero_mask(image, fill=False)))
    if peak.bytes <= available:
        return
    advice = []
    if peak.maps and peak.bytes - peak.maps <= available:
        advice.append(f"--max-memory {max(peak.maps / 4e9, 0.1):.1f} leaves its maps in a temporary file.")
    if demand.probabilities:
        advice.append("Without --save-probabilities it takes less.")
    advice.append("Close other programs, or predict it where more memory is free.")
    size = "×".join(map(str, array.shape[1:]))
    raise SegError(Record(code="SEG-R04", case=case or None, found=f"the prediction of {size} voxels takes about "
                          f"{peak.bytes / 1e9:.2g} GB beside the image", expected=f"at most {available / 1e9:.2g} GB, "
                          "which are free", advice=" ".join(advice)), Exit.RESOURCES)


def refuse_unreadable(paths: Sequence[Path]) -> None:
    """Refuse files of an image that is larger than the free memory, by what their headers say.

    A header that cannot be read is left to who reads the whole file.

    Raises:
        SegError: they hold more than that (SEG-R04, exit 5).
    """
    need = 0
    for path in paths:
        with suppress(SegError):
            geometry = geometry_of(path) if path.is_file() else None
            need += FLOAT * geometry.channels * math.prod(geometry.shape) if geometry else 0
    available = available_memory()
    if need > available:
        raise SegError(Record(code="SEG-R04", found=f"an image of {need / 1e9:.2g} GB in memory", file=str(paths[0]),
                              expected=f"at most {available / 1e9:.2g} GB, which are free",
                              advice="Predict it where more memory is free, or cut it into parts."), Exit.RESOURCES)


def available_memory() -> int:
    """Bytes of the machine's memory that this process may still take, within the limit of its cgroup (Linux, v2)."""
    return min([free_memory(torch.device("cpu")), *_rooms_in_cgroups()])


def _rooms_in_cgroups() -> Iterator[int]:
    """What is left below each limit that is set for this process; the files in memory can go."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    for group in (CGROUPS / own, *(CGROUPS / own).parents):
        if not group.is_relative_to(CGROUPS):
            return
        with suppress(OSError, ValueError):  # no limit is the word "max"
            limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            yield max(0, limit - used + int(stat.get("file", 0)))
