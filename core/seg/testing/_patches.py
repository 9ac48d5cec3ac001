"""Laws of samplers and augmenters: what batches are made of. B batch, C channels, L labels of a previous stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import evolve

from seg.kinds import Augmenter, Batch, CaseArrays, CaseIndex, Position, Sampler
from seg.models import Configuration
from seg.testing._check import Check, expect
from seg.testing._samples import configuration

if TYPE_CHECKING:
    import torch

PATCHES = ((8, 8, 6), (2, 12, 10), (12, 10))
IDS = (0, 1, 3)  # no 2: what lies between two labels is none
IGNORED = 3
SEEDS = 12
ALIKE = 0.85  # by chance it is a half; turning and blur cost a little at borders
NO_MARGIN = (0, 0, 0)


# Samplers


def _index() -> list[CaseIndex]:
    """Cases with two classes, a tiny one, and one without foreground."""
    rng = np.random.default_rng(0)

    def places(shape: tuple[int, int, int]) -> Any:
        return np.stack([rng.integers(0, size, 20) for size in shape], 1).astype(np.int32)

    shapes = [(20, 22, 24), (3, 4, 5), (16, 18, 9)]
    index = [CaseIndex(case=f"case {n}", shape=shape, locations={0: places(shape), 1: places(shape)})
             for n, shape in enumerate(shapes)]
    return [*index, CaseIndex(case="empty", shape=(12, 12, 12), locations={0: np.empty((0, 3), np.int32)}),
            CaseIndex(case="bare", shape=(12, 12, 12), locations={})]


def _drawn(sampler: Sampler, patch: tuple[int, ...], seed: int, batch: int = 4) -> list[Position]:
    return sampler.positions(_index(), configuration(patch, batch=batch), NO_MARGIN, np.random.default_rng(seed))


def _shows(position: Position, key: int, size: Sequence[int]) -> bool:
    voxels = _index()[position.case].locations.get(key)
    if voxels is None:
        return False
    start = np.array(position.start)
    return bool(((voxels >= start) & (voxels < start + np.array(size))).all(1).any())


def sampler_count(sampler: Sampler) -> None:
    for patch in PATCHES:
        for batch in (1, 2, 5):
            found = _drawn(sampler, patch, 0, batch)
            expect(len(found) == batch, f"{len(found)} positions", f"{batch}, as many as the batch has")
            for one in found:
                expect(0 <= one.case < len(_index()), f"the case {one.case}", f"0 to {len(_index()) - 1}")
                whole = len(one.start) == 3 and all(isinstance(n, int) for n in one.start)
                expect(whole, f"the start {one.start!r}", "three whole numbers (z, y, x)")


def sampler_overlap(sampler: Sampler) -> None:
    for patch in PATCHES:
        size = configuration(patch).patch3
        for one in (one for seed in range(SEEDS) for one in _drawn(sampler, patch, seed)):
            shape = _index()[one.case].shape
            inside = all(s < n and s + p > 0 for s, n, p in zip(one.start, shape, size, strict=True))
            expect(inside, f"a patch of {size} from {one.start} on, in a case of {shape}", "one that meets its case")


def sampler_replay(sampler: Sampler) -> None:
    for patch in PATCHES:
        expect(_drawn(sampler, patch, 7) == _drawn(evolve(sampler), patch, 7),  # type: ignore[misc]
               "other positions from the same generator", "the same")
    draws = {tuple(one.start for one in _drawn(sampler, PATCHES[0], seed)) for seed in range(SEEDS)}
    expect(len(draws) > 1, f"the same positions from {SEEDS} generators", "others")


def sampler_forced(sampler: Sampler) -> None:
    for patch in PATCHES:
        size = configuration(patch).patch3
        for one in (one for seed in range(SEEDS) for one in _drawn(sampler, patch, seed, 6)):
            if one.forced_class is not None:
                expect(_shows(one, one.forced_class, size),
                       f"no voxel of the forced class {one.forced_class} in the patch from {one.start} on",
                       "at least one")


def sampler_reach(sampler: Sampler) -> None:
    found = [one for seed in range(50) for one in _drawn(sampler, PATCHES[0], seed)]
    missed = set(range(len(_index()))) - {one.case for one in found}
    expect(not missed, f"no patch of the cases {sorted(missed)} in {len(found)}", "patches of every case")
    size = configuration(PATCHES[0]).patch3
    for key in (0, 1):
        expect(any(_shows(one, key, size) for one in found), f"no patch of {len(found)} with the class {key}",
               "foreground in some")


def sampler_no_foreground(sampler: Sampler) -> None:
    bare = _index()[-2:]
    for patch in PATCHES:
        found = sampler.positions(bare, configuration(patch), NO_MARGIN, np.random.default_rng(0))
        forced = [one.forced_class for one in found if one.forced_class is not None]
        expect(len(found) == 2 and not forced, f"{len(found)} positions, forced classes {forced}",
               "2 positions, nothing forced in cases without foreground")


# Augmenters


def _cases(*, previous: bool = False) -> list[CaseArrays]:
    """Two cases of two channels, the image bright where the label is 3; one is thinner than most patches."""
    import torch

    rng, found = np.random.default_rng(0), []
    for shape in ((14, 16, 15), (4, 20, 9)):
        label = np.array(IDS, np.int16)[rng.integers(0, 3, [-(-n // 4) for n in shape])]
        for axis in range(3):
            label = label.repeat(4, axis)
        label = label[tuple(slice(0, n) for n in shape)].copy()
        image = np.stack([label + rng.normal(0, 0.1, shape), -label + rng.normal(0, 0.1, shape)]).astype(np.float32)
        label[0, :2] = -1
        before = torch.from_numpy((label > 0).astype(np.int16)) if previous else None
        found.append(CaseArrays(image=torch.from_numpy(image), label=torch.from_numpy(label), previous=before))
    return found


def _plan(patch: tuple[int, ...], **changes: Any) -> Configuration:
    return configuration(patch, batch=3, **changes)


def _batch(
    augmenter: Augmenter, plan: Configuration, seed: int = 0, cases: Sequence[CaseArrays] | None = None
) -> Batch:
    import torch

    starts = [Position(case=0, start=(2, 1, 3)), Position(case=1, start=(-2, 3, -1)), Position(case=0, start=(9, 9, 9))]
    rng = np.random.default_rng(seed)
    return augmenter.batch(cases or _cases(), starts, plan, rng, torch.device("cpu"))


def augmenter_margin(augmenter: Augmenter) -> None:
    for patch in PATCHES:
        margin = augmenter.margin(_plan(patch))
        fits = len(margin) == 3 and all(isinstance(n, int) and n >= 0 for n in margin)
        expect(fits, f"the margin {margin!r}", "three whole numbers (z, y, x) of 0 or more")


def augmenter_shapes(augmenter: Augmenter) -> None:
    import torch

    for patch in PATCHES:
        for batch in (_batch(augmenter, _plan(patch), seed) for seed in range(3)):
            image, label = batch.image, batch.label
            expect(image.shape == (3, 2, *patch), f"an image of {tuple(image.shape)}", f"{(3, 2, *patch)}")
            expect(label.shape == (3, *patch), f"a label map of {tuple(label.shape)}", f"{(3, *patch)}")
            expect(image.dtype == torch.float32 and label.dtype == torch.int64, f"{image.dtype} and {label.dtype}",
                   "a float32 image and an int64 label map")
            devices = {image.device.type, label.device.type}
            expect(devices == {"cpu"}, f"a batch on {sorted(devices)}", "on the device that was asked for, cpu")
            expect(bool(image.isfinite().all()), "values that are no finite numbers", "finite ones")


def augmenter_labels(augmenter: Augmenter) -> None:
    for patch in PATCHES:
        seen = set[int]()
        for seed in range(SEEDS):
            seen |= set(_batch(augmenter, _plan(patch), seed).label.flatten().tolist())
        expect(seen <= set(IDS), f"the ids {sorted(seen)}", f"some of {IDS}, which the cases have; 0 outside of them")
        expect(IGNORED in seen, f"the ids {sorted(seen)}, the ignored one lost", f"all of {IDS}")


def augmenter_together(augmenter: Augmenter) -> None:
    """In the cases every voxel of the label 3 is brighter than every one of the background; most stay so."""
    for patch in PATCHES:
        shares = list[float]()
        for batch in (_batch(augmenter, _plan(patch), seed) for seed in range(SEEDS)):
            for image, label in zip(batch.image[::2, 0], batch.label[::2], strict=True):
                inside, outside = image[label == IGNORED], image[label == 0]
                if inside.numel() and outside.numel():
                    shares.append(float((inside.unsqueeze(1) > outside).float().mean()))
        agree = sum(shares) / max(len(shares), 1)
        expect(agree > ALIKE, f"labels that fit the image in {agree:.0%} of pairs of voxels, patches of {patch}",
               f"more than {ALIKE:.0%}: both turned, scaled and mirrored together")


def augmenter_replay(augmenter: Augmenter) -> None:
    for patch in PATCHES:
        first, second = _batch(augmenter, _plan(patch), 5), _batch(evolve(augmenter), _plan(patch), 5)  # type: ignore[misc]
        expect(first.image.equal(second.image) and first.label.equal(second.label),
               "another batch from the same generator", "the same, to the bit")


def augmenter_inputs(augmenter: Augmenter) -> None:
    cases, before = _cases(previous=True), _cases(previous=True)
    for patch in PATCHES:
        batch = _batch(augmenter, _cascade(patch), 0, cases)
        batch.image.zero_()
        batch.label.zero_()
    for now, then in zip(cases, before, strict=True):
        same = now.image.equal(then.image) and now.label.equal(then.label) and now.previous.equal(then.previous)
        expect(same, "cases that changed", "cases as they were: later batches are cut from them too")


def _cascade(patch: tuple[int, ...]) -> Configuration:
    """A second stage: two channels, and three labels of the first one's prediction."""
    plan = _plan(patch)
    return evolve(plan, previous_stage="first", topology=evolve(plan.topology, in_channels=5))


def augmenter_cascade(augmenter: Augmenter) -> None:
    for patch in PATCHES:
        image = _batch(augmenter, _cascade(patch), 0, _cases(previous=True)).image
        expect(image.shape == (3, 5, *patch), f"an image of {tuple(image.shape)} in a second stage",
               f"{(3, 5, *patch)}")
        low, high = float(image[:, 2:].min()), float(image[:, 2:].max())
        expect(low >= 0 and high <= 1, f"values from {low:g} to {high:g} in channels of the previous stage", "0 to 1")


def augmenter_disk(augmenter: Augmenter) -> None:
    import h5py

    cases = _cases()
    with h5py.File("cases.h5", "w", driver="core", backing_store=False) as file:
        stored = [CaseArrays(image=file.create_dataset(f"image {n}", data=one.image.numpy()),
                             label=file.create_dataset(f"label {n}", data=one.label.numpy()))
                  for n, one in enumerate(cases)]
        for patch in PATCHES:
            near, far = _batch(augmenter, _plan(patch), 3, cases), _batch(augmenter, _plan(patch), 3, stored)
            expect(_close(near.image, far.image) and near.label.equal(far.label), "another batch from the disk",
                   "the same as from memory")


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((one - other).abs().max() < 1e-4)


CHECKS = (
    Check(id="sampler-count", kind="sampler", law=sampler_count,
          reason="Each position becomes one entry of the batch."),
    Check(id="sampler-overlap", kind="sampler", law=sampler_overlap, reason="A patch outside its case is all zeros."),
    Check(id="sampler-replay", kind="sampler", law=sampler_replay,
          reason="A training that goes on must see the batches it would have seen."),
    Check(id="sampler-forced", kind="sampler", law=sampler_forced,
          reason="A class that is said to be shown must be there, or rare classes are never learnt."),
    Check(id="sampler-reach", kind="sampler", law=sampler_reach, reason="A case that is never drawn teaches nothing."),
    Check(id="sampler-no-foreground", kind="sampler", law=sampler_no_foreground,
          reason="Healthy cases have no foreground, and must not stop a training."),
    Check(id="augmenter-margin", kind="augmenter", law=augmenter_margin,
          reason="Samplers place patches with room for what the augmenter reads around them."),
    Check(id="augmenter-shapes", kind="augmenter", law=augmenter_shapes,
          reason="The network and the loss take batches of one shape and type, on their device."),
    Check(id="augmenter-labels", kind="augmenter", law=augmenter_labels,
          reason="Ids are names: between 1 and 3 there is no 2, and what is ignored stays so."),
    Check(id="augmenter-together", kind="augmenter", law=augmenter_together,
          reason="Labels that move otherwise than the image teach the network wrong borders."),
    Check(id="augmenter-replay", kind="augmenter", law=augmenter_replay,
          reason="A training that goes on must see the batches it would have seen."),
    Check(id="augmenter-inputs", kind="augmenter", law=augmenter_inputs,
          reason="Cases stay in memory for all batches."),
    Check(id="augmenter-cascade", kind="augmenter", law=augmenter_cascade,
          reason="The second stage of a cascade takes the first one's labels as further channels."),
    Check(id="augmenter-disk", kind="augmenter", law=augmenter_disk,
          reason="Where memory is short, cases are HDF5 datasets, of which slices alone can be taken."),
)
