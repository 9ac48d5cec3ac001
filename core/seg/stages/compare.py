"""An ablation: every member of a grid trained on the same folds, and how they differ case by case.

Each member is a run folder of its own inside the folder of the comparison, made by `seg.stages.run`: what is finished
is kept, what was cut short goes on.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
from attrs import frozen
from safetensors import safe_open

from seg.convert import load_json, read_json, write_json
from seg.device import choose_devices
from seg.discovery import discover
from seg.effects import Effect, Pair, effect
from seg.errors import Exit, Record, SegError, tell
from seg.estimates import format_seconds
from seg.files import locked
from seg.grids import Member, member_name
from seg.models import Dataset, Evaluation
from seg.progress import Logged, Progress, Silent
from seg.registry import Registry
from seg.runfolder import Components
from seg.settings import Settings
from seg.splits import make_splits
from seg.stages.check import find_dataset
from seg.stages.comparison import Comparison, MemberResult, without_seed, write_comparison
from seg.stages.run import run, with_length
from seg.stages.select import MODEL
from seg.stages.train import REDUCED, WEIGHTS

MEMORY = "memory.json"
PREPARING = ("fingerprinter", "planner", "data")  # factors on which prepared cases may depend


def compare(
    data: Path,
    members: Sequence[Member],
    out: Path | None = None,
    *,
    registry: Registry | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Run every member of a grid (`seg.grids.make_grid`) in the folder `out` (`compare/<dataset>`), and compare them.

    Without folds in the settings, fold 0. A member that fails is recorded, and the others go on. `compare.json`, `.csv`
    and `.html` are written in any case.

    Raises:
        SegError: bad names or options of any member, before anything is done; refused data; a folder in use; all
            members failed. `exit_code` says which.
    """
    registry, progress = registry or discover(), progress or Silent()
    members = [attrs.evolve(member, settings=_settled(member, registry)) for member in members]
    resolve_all(members, registry)
    first = members[0].settings
    dataset = find_dataset(data, registry, first.labels or None, first.data.reorient)
    out = out or Path("compare") / dataset.description.name
    with locked(out):
        progress = Logged(progress, out / "log.txt")
        for line in estimate_lines(members, out, _fold_count(first, dataset)):
            progress.say(line)
        work = _Work(data=data, out=out, members=tuple(members), registry=registry, progress=progress)
        results = work.all()
        found = Comparison(data=dataset.description.name, folds=first.folds, length=_length(first),
                           members=tuple(results), differences=_differences(results, out),
                           effects=_effects(results, out))
        write_comparison(found, out)
    if all(result.faults for result in results):
        raise SegError(list(found.faults), Exit(results[0].exit_code))
    return found


def resolve_all(members: Sequence[Member], registry: Registry) -> None:
    """Build every component of every member, so that all mistakes are told before any work.

    Raises:
        SegError: with each mistake once; the exit code is that of the first one.
    """
    records: dict[Record, Exit] = {}
    for member in members:
        try:
            Components.resolve(member.settings, registry)
        except SegError as error:
            records |= {record: error.exit_code for record in error.records if record not in records}
    if records:
        raise SegError(list(records), next(iter(records.values())))


def estimate_lines(members: Sequence[Member], out: Path, folds: int) -> list[str]:
    """What the comparison will take, in words, with so many folds."""
    first = members[0].settings
    count = len(members) * folds * max(1, len(first.configurations))
    each = " for each configuration" if first.configurations == ("all",) else ""
    lines = [f"{len(members)} members in {out}: {', '.join(member.name for member in members)}",
             f"fold{'s' if folds > 1 else ''} {', '.join(first.folds)}; {count} trainings{each} of {_length(first)}"]
    if first.budget_s:
        lines[1] += f" each, {format_seconds(count * first.budget_s)} in all; checks, cases, validation come on top"
    return lines


def _fold_count(settings: Settings, dataset: Dataset) -> int:
    """How many folds will be trained; a file of folds that is none is refused here already."""
    count = len(make_splits(dataset.cases, settings.splits))
    return count if settings.folds == ("all",) else len(settings.folds)


def _settled(member: Member, registry: Registry) -> Settings:
    settings = with_length(member.settings, registry)
    return attrs.evolve(settings, folds=settings.folds or ("0",))


def _length(settings: Settings) -> str:
    if settings.budget_s:
        return format_seconds(settings.budget_s)
    return f"{settings.epochs} epochs of {settings.train.steps_per_epoch} steps"


@frozen(kw_only=True)
class _Work:
    """The members, one after the other."""

    data: Path
    out: Path
    members: tuple[Member, ...]
    registry: Registry
    progress: Progress

    def all(self) -> list[MemberResult]:
        """Run every member; what one fails with is its result."""
        results: list[MemberResult] = []
        for index, member in enumerate(self.members):
            self.progress.say(f"member {index + 1} of {len(self.members)}: {member.name}")
            finished = [other.name for other in results if not other.faults]
            result = self._one(member, self.members[:index], finished)
            results.append(result)
            for record in result.faults:
                self.progress.say(f"{member.name} failed: {record}")
        return results

    def _one(self, member: Member, earlier: Sequence[Member], finished: Sequence[str]) -> MemberResult:
        folder = self.out / member.name
        try:
            _borrow(folder, member, earlier)
            with _peak_memory(folder, member.settings):
                run(self.data, folder, member.settings, registry=self.registry, progress=self.progress)
            _refuse_other_folds(folder, [self.out / name for name in finished])
            return measure_member(member, folder)
        except SegError as error:
            unplanned = error.exit_code == Exit.DATA and not (folder / "plan.json").exists()
            if not finished and (error.exit_code == Exit.USAGE or unplanned):  # a mistake that all would share
                raise
            records, code = tuple(error.records), error.exit_code
        except Exception as error:
            if hasattr(error, "exit_code"):  # a signal
                raise
            records, code = _unexpected(error, folder)
        return MemberResult(name=member.name, choices=member.choices, faults=records, exit_code=code)


def _refuse_other_folds(folder: Path, others: Sequence[Path]) -> None:
    """Refuse a member whose folds are not those of the ones before: the data changed meanwhile."""
    mine = load_json(folder / "splits.json")
    for other in others:
        if load_json(other / "splits.json") != mine:
            raise SegError(Record(code="SEG-C07", found=f"other folds than {other.name} has", file=str(folder),
                                  advice="Did the data change? Delete the folder of the comparison."), Exit.USAGE)


def _unexpected(error: Exception, folder: Path) -> tuple[tuple[Record, ...], Exit]:
    """What a component raised, or a device without memory enough, as a fault of its member."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        record = Record(code="SEG-R04", found=f"not enough memory: {tell(error)}", file=str(folder),
                        advice="Plan for less with --set planner.vram_gb=…")
        return (record,), Exit.RESOURCES
    record = Record(code="SEG-T10", found=f"this member failed unexpectedly: {tell(error)}", file=str(folder),
                    advice="`seg run` with these settings and --debug shows the place.")
    return (record,), Exit.PLUGIN


def _borrow(folder: Path, member: Member, earlier: Sequence[Member]) -> None:
    """Give a new run folder the prepared cases and the fingerprint of an earlier member, as hard links.

    That is safe whatever they are: the run keeps of them what has the right digest, and files are never altered in
    place. Where links cannot be made, the run prepares its own.
    """
    lenders = [other for other in earlier if (folder.parent / other.name / "cases").is_dir()]
    if (folder / "cases").exists() or not lenders:
        return
    alike = [other for other in lenders if _preparing(other) == _preparing(member)]
    lender = folder.parent / (alike or lenders)[0].name
    try:
        shutil.copytree(lender / "cases", folder / "cases", copy_function=os.link, ignore=shutil.ignore_patterns(".*"))
        shutil.copy2(lender / "fingerprint.json", folder / "fingerprint.json")
    except OSError:
        shutil.rmtree(folder / "cases", ignore_errors=True)


def _preparing(member: Member) -> dict[str, str]:
    return {name: value for name, value in member.choices.items() if name.partition(".")[0] in PREPARING}


@contextmanager
def _peak_memory(folder: Path, settings: Settings) -> Iterator[None]:
    """Note the most memory that a run took of its device, if that is a GPU; starts do not lower it.

    What other processes take is not known here, so nothing is noted where an executor starts some.
    """
    here = settings.executor.rpartition(":")[2] == "local"
    chosen, file = choose_devices(settings.device if here else "cpu")[0], folder / MEMORY
    if chosen.type != "cuda":
        yield
        return
    import torch

    torch.cuda.reset_peak_memory_stats(chosen)
    yield
    before = load_json(file)["bytes"] if file.exists() else 0
    write_json(file, {"bytes": max(before, torch.cuda.max_memory_allocated(chosen))})


def measure_member(member: Member, folder: Path) -> MemberResult:
    """What a finished run folder says of its member."""
    evaluation = _evaluation(folder)
    trainings = [file.parent for file in sorted(folder.glob(f"training/*/fold_*/{WEIGHTS}"))]
    last = [json.loads((path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1]) for path in trainings]
    networks = {path.parent: path / WEIGHTS for path in trainings}
    memory = folder / MEMORY
    return MemberResult(
        name=member.name, choices=member.choices, cases=len(evaluation.cases), mean=evaluation.mean,
        class_means=evaluation.class_means, larger_is_better=evaluation.larger_is_better,
        steps=sum(row["step"] for row in last), seconds=sum(row["seconds"] for row in last),
        parameters=sum(map(_parameters, networks.values())),
        peak_memory_bytes=load_json(memory)["bytes"] if memory.exists() else None,
        reduced=any(load_json(path / REDUCED)["reasons"] for path in trainings if (path / REDUCED).exists()))


def _evaluation(folder: Path) -> Evaluation:
    return read_json(folder / "validation" / MODEL / "metrics.json", Evaluation)


def _parameters(file: Path) -> int:
    with safe_open(file, framework="pt") as weights:
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118 - no mapping


def _differences(results: Sequence[MemberResult], out: Path) -> tuple[Effect, ...]:
    """Every combination against that of the first member, over all seeds where they vary beside something else."""
    baseline = without_seed(results[0].choices)
    others = {member_name(choices): choices for result in results
              if (choices := without_seed(result.choices)) != baseline}
    found = []
    for name, choices in others.items():
        if pairs := _pairs(results, out, choices, baseline):
            found.append(effect(name, member_name(baseline), pairs))
    return tuple(found)


def _effects(results: Sequence[MemberResult], out: Path) -> dict[str, tuple[Effect, ...]]:
    """Each value of a factor against its first one, over all combinations of the others."""
    factors = list(without_seed(results[0].choices))
    if len(factors) < 2:
        return {}
    found = {}
    for factor in factors:
        first, *others = dict.fromkeys(result.choices[factor] for result in results)
        pairs = {value: _pairs(results, out, {factor: value}, {factor: first}) for value in others}
        found[factor] = tuple(effect(value, first, some) for value, some in pairs.items() if some)
    return found


def _pairs(
    results: Sequence[MemberResult], out: Path, choices: Mapping[str, str], against: Mapping[str, str]
) -> list[Pair]:
    """Evaluations of finished members with `choices`, each with the member that has `against` and is else the same."""
    finished = [result for result in results if not result.faults]
    found = []
    for result in finished:
        if choices.items() <= result.choices.items():
            wanted = {**result.choices, **against}
            found += [(result, other) for other in finished if other.choices == wanted]
    return [(_evaluation(out / one.name), _evaluation(out / other.name)) for one, other in found]
