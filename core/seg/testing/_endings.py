"""Laws of ensemblers, postprocessors and exporters: what is made of trained networks. K outputs."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from seg.errors import Exit, SegError
from seg.kinds import Candidate, Ensembler, Exporter, LabelledEnsembler, Postprocessor
from seg.models import Labels
from seg.testing._check import Check, expect
from seg.testing._samples import PLAIN, REGIONS, balls, evaluation

if TYPE_CHECKING:
    import torch

SIZE = (4, 5, 6)  # Z, Y, X
MANY = 6
ALIVE = 3  # maps at the same time: the sum, the last one, the next one


# Ensemblers


def _candidates() -> list[Candidate]:
    return [Candidate(name="2d", evaluation=evaluation(0.7)), Candidate(name="3d_fullres", evaluation=evaluation(0.8)),
            Candidate(name="2d+3d_fullres", evaluation=evaluation(0.75)),
            Candidate(name="3d_lowres", evaluation=evaluation(None, None))]


def ensembler_select(ensembler: Ensembler) -> None:
    known = {name for candidate in _candidates() for name in candidate.name.split("+")}
    for candidates in (_candidates(), _candidates()[:1], _candidates()[-1:]):
        chosen = ensembler.select(candidates)
        fits = isinstance(chosen, tuple) and chosen and set(chosen) <= known and len(set(chosen)) == len(chosen)
        expect(fits, f"the choice {chosen!r}", f"a tuple of at least one of {sorted(known)}, none twice")


def ensembler_order(ensembler: Ensembler) -> None:
    first, second = (set(ensembler.select(some)) for some in (_candidates(), _candidates()[::-1]))
    expect(first == second, f"{sorted(first)}, and in another order of the candidates {sorted(second)}", "the same")


def _combined(
    ensembler: Ensembler,
) -> Iterator[tuple[str, tuple[int, ...], Callable[[Iterator[torch.Tensor]], torch.Tensor]]]:
    """What combines, with the shape (K, Z, Y, X) of its maps: of classes and of regions, and of one class alone.

    An ensembler that asks for labels never gets one class of several alone.
    """
    for labels in (PLAIN, REGIONS):
        one = ensembler.for_labels(labels) if isinstance(ensembler, LabelledEnsembler) else ensembler
        yield f"combine_folds of {labels.outputs} maps", (labels.outputs, *SIZE), one.combine_folds
        yield f"combine_configurations of {labels.outputs} maps", (labels.outputs, *SIZE), one.combine_configurations
    if not isinstance(ensembler, LabelledEnsembler):
        yield "combine_folds of one class", (1, *SIZE), ensembler.combine_folds


def ensembler_equal(ensembler: Ensembler) -> None:
    import torch

    for name, shape, combine in _combined(ensembler):
        one = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        for kind in (torch.float32, torch.float16):
            for count in (1, 3):
                found = combine(one.to(kind) for _ in range(count))
                expect(found.shape == one.shape, f"{name}: a map of {tuple(found.shape)}", f"{shape}")
                expect(bool((found.float() - one).abs().max() < 2e-3), f"{name}: another map than {count} equal ones",
                       "that map")


def ensembler_inputs(ensembler: Ensembler) -> None:
    import torch

    for name, shape, combine in _combined(ensembler):
        maps = [torch.full(shape, value) for value in (0.25, 0.75)]
        found = combine(iter(maps))
        expect(bool(((found - 0.5).abs() <= 0.25 + 1e-6).all()),
               f"{name}: values from {float(found.min()):g} to {float(found.max()):g}", "between those of the maps")
        same = all(bool((one == value).all()) for one, value in zip(maps, (0.25, 0.75), strict=True))
        expect(same, f"{name}: maps that changed", "maps as they were")


def ensembler_memory(ensembler: Ensembler) -> None:
    import torch

    for name, shape, combine in _combined(ensembler):
        seen, most = list[Any](), [0]

        def maps(
            seen: list[Any] = seen, most: list[int] = most, shape: tuple[int, ...] = shape
        ) -> Iterator[torch.Tensor]:
            for _ in range(MANY):
                one = torch.ones(shape)
                seen.append(weakref.ref(one))
                most[0] = max(most[0], sum(each() is not None for each in seen))
                yield one
                del one

        combine(maps())
        expect(len(seen) == MANY, f"{name}: {len(seen)} of {MANY} maps asked for", "all of them")
        expect(most[0] <= ALIVE, f"{name}: {most[0]} of {MANY} maps at the same time", f"{ALIVE} at most")


# Postprocessors


def _validated() -> list[Callable[[], tuple[NDArray[Any], NDArray[Any]]]]:
    """Cases that are read when called: predictions with a speck of tumour in a corner."""

    def read(seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
        truth = balls((10, 12, 14), seed)
        predicted = truth.copy()
        predicted[0, :2, :2] = 2
        return truth, predicted

    return [lambda seed=seed: read(seed) for seed in range(3)]  # type: ignore[misc]


def _learnt(postprocessor: Postprocessor) -> tuple[str, ...]:
    steps = postprocessor.learn(_validated(), PLAIN)
    fits = isinstance(steps, tuple) and all(isinstance(step, str) for step in steps)
    expect(fits, f"the steps {steps!r}", "a tuple of texts, which a model stores")
    return steps


def postprocessor_copy(postprocessor: Postprocessor) -> None:
    steps, predicted = _learnt(postprocessor), _validated()[0]()[1]
    for kind in (np.uint8, np.int16, np.int64):
        for before in (predicted.astype(kind), predicted[:1].astype(kind), np.zeros((2, 3, 4), kind)):
            given = before.copy()
            found = postprocessor.apply(given, PLAIN, steps)
            expect(found.shape == before.shape and found.dtype == before.dtype, f"{found.dtype} {found.shape}",
                   f"{before.dtype} {before.shape}, as given")
            expect(np.array_equal(given, before) and not np.shares_memory(found, given), "a prediction that changed",
                   "a copy with the steps done to it")


def postprocessor_ids(postprocessor: Postprocessor) -> None:
    steps = _learnt(postprocessor)
    for _, predicted in (read() for read in _validated()):
        found = postprocessor.apply(predicted, PLAIN, steps)
        strange = sorted(set(np.unique(found).tolist()) - set(PLAIN.ids))
        expect(not strange, f"the ids {strange}", f"some of {PLAIN.ids}")


def postprocessor_idempotent(postprocessor: Postprocessor) -> None:
    steps = _learnt(postprocessor)
    for _, predicted in (read() for read in _validated()):
        once = postprocessor.apply(predicted, PLAIN, steps)
        twice = postprocessor.apply(once, PLAIN, steps)
        expect(np.array_equal(once, twice), f"{int((once != twice).sum())} voxels that change the second time", "none")


def postprocessor_unknown(postprocessor: Postprocessor) -> None:
    try:
        postprocessor.apply(np.zeros((2, 2, 2), np.uint8), PLAIN, ("a step of nobody",))
    except SegError as error:
        expect(error.exit_code == Exit.UNSAFE, f"exit code {int(error.exit_code)} for an unknown step", "7")
        return
    expect(holds=False, found="an unknown step that was accepted", expected="a SegError (exit 7)")


def postprocessor_harmless(postprocessor: Postprocessor) -> None:
    steps = _learnt(postprocessor)
    before, after = list[float](), list[float]()
    for truth, predicted in (read() for read in _validated()):
        before.append(_dice(truth, predicted, PLAIN))
        after.append(_dice(truth, postprocessor.apply(predicted, PLAIN, steps), PLAIN))
    expect(sum(after) >= sum(before) - 1e-9, f"a mean Dice of {np.mean(after):.4f} after the steps {steps}",
           f"no less than before, {np.mean(before):.4f}, on the cases they were learnt from")


def postprocessor_nothing(postprocessor: Postprocessor) -> None:
    expect(isinstance(postprocessor.learn([], PLAIN), tuple), "no tuple of steps without cases", "a tuple")
    predicted = _validated()[0]()[1]
    expect(np.array_equal(postprocessor.apply(predicted, PLAIN, ()), predicted), "changes without a step", "none")


def _dice(truth: NDArray[Any], predicted: NDArray[Any], labels: Labels) -> float:
    found = []
    for ids in labels.foreground.values():
        ours, theirs = np.isin(truth, ids), np.isin(predicted, ids)
        found.append(2 * (ours & theirs).sum() / max(ours.sum() + theirs.sum(), 1))
    return float(np.mean(found))


# Exporters


def exporter_folder(exporter: Exporter) -> None:
    from seg.testing._model import small_model

    with TemporaryDirectory() as name:
        root = Path(name)
        model = small_model(root / "model")
        before = _contents(root)
        (root / "exported").mkdir()
        try:
            files = exporter.export(model, root / "exported")
        except SegError as error:
            expect(error.records, "a SegError without a record", "what is missing, as a record")
            expect(not any(root.glob("exported/*")), "files beside a refusal", "whole files or none")
            return
        written = bool(files) and all(path.is_file() for path in files)
        expect(written, f"{files!r}", "the files that were written, at least one")
        inside = all((root / "exported").resolve() in path.resolve().parents for path in files)
        elsewhere = {path: text for path, text in _contents(root).items() if "exported" not in path.parts}
        expect(inside and elsewhere == before, "files outside of the folder", "all files in the folder of the export")


def _contents(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


CHECKS = (
    Check(id="ensembler-select", kind="ensembler", law=ensembler_select,
          reason="What is chosen becomes the model, so it must be there."),
    Check(id="ensembler-order", kind="ensembler", law=ensembler_order,
          reason="The choice is made by validation, not by the order of training."),
    Check(id="ensembler-equal", kind="ensembler", law=ensembler_equal,
          reason="Networks that agree must not be overruled by their combination."),
    Check(id="ensembler-inputs", kind="ensembler", law=ensembler_inputs,
          reason="A combination lies between what it combines, and leaves it to others as it was."),
    Check(id="ensembler-memory", kind="ensembler", law=ensembler_memory,
          reason="A map of all classes of a whole volume is large; ten at the same time do not fit."),
    Check(id="postprocessor-copy", kind="postprocessor", law=postprocessor_copy,
          reason="The prediction before post-processing is kept, and its type is that of the file."),
    Check(id="postprocessor-ids", kind="postprocessor", law=postprocessor_ids,
          reason="A label map with ids that are no class cannot be written."),
    Check(id="postprocessor-idempotent", kind="postprocessor", law=postprocessor_idempotent,
          reason="A prediction that is postprocessed already must stay as it is."),
    Check(id="postprocessor-unknown", kind="postprocessor", law=postprocessor_unknown,
          reason="A model with steps of another component would silently predict something else."),
    Check(id="postprocessor-harmless", kind="postprocessor", law=postprocessor_harmless,
          reason="Steps are learnt because they help; on the cases they come from they must not harm."),
    Check(id="postprocessor-nothing", kind="postprocessor", law=postprocessor_nothing,
          reason="Without steps a prediction stays what the networks say."),
    Check(id="exporter-folder", kind="exporter", law=exporter_folder,
          reason="An export leaves the model and all else on the disk as it was."),
)
