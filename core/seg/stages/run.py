"""The chain of all stages: from a folder of labelled images to a validated model and its report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
from attrs import frozen

from seg.cascades import trainings
from seg.convert import read_json, to_data, write_json
from seg.device import choose_devices, named_devices
from seg.discovery import discover
from seg.errors import Record, SegError, usage_error
from seg.estimates import Estimate, estimate
from seg.events import RunEnded, RunStarted
from seg.executing import device_elsewhere
from seg.files import digest_json, locked
from seg.further import directions
from seg.listening import Listening, amended
from seg.metrics import evaluation
from seg.models import Dataset, Evaluation, Fingerprint, Plan
from seg.nnunet_files import read_plan_file
from seg.preprocessing import Preparation
from seg.progress import Logged, Progress, Silent
from seg.registry import Registry
from seg.runfolder import Components, RunFolder
from seg.settings import Settings
from seg.splits import FULL, make_splits, parted_images
from seg.stages.bundle import make_bundle
from seg.stages.check import CheckReport, check, find_dataset
from seg.stages.evaluate import write_evaluation
from seg.stages.execute import timed, train_folds, validated
from seg.stages.fingerprint import make_fingerprint
from seg.stages.levels import at_chosen_level, refuse_unknown_levels
from seg.stages.plan import make_plan
from seg.stages.preprocess import preprocess, store_name
from seg.stages.select import Selection, select
from seg.stages.train import Fold

CPU_BUDGET_S = 20 * 60.0
GPU_EPOCHS = 1000  # nnU-Net's length


@frozen(kw_only=True)
class RunResult:
    """What a run came to: metrics of each candidate over all its validated cases, and which of them is the model.

    A dry run has neither.
    """

    folder: Path
    estimate: Estimate
    evaluations: dict[str, Evaluation]
    selection: Selection | None
    records: tuple[Record, ...]


def run(
    data: Path,
    out: Path | None = None,
    settings: Settings | None = None,
    *,
    registry: Registry | None = None,
    progress: Progress | None = None,
    dry_run: bool = False,
) -> RunResult:
    """Everything, from `data` to a model bundle and a report in the folder `out` (`runs/<dataset>`).

    What an earlier run finished in the same folder with the same settings is kept; a training that was cut short goes
    on. `dry_run` stops after the plan and the estimates.

    Raises:
        SegError: bad settings, refused data, a folder in use, a full disk; `exit_code` says which.
    """
    registry, progress = registry or discover(), progress or Silent()
    settings = with_length(settings or Settings(), registry)
    components = Components.resolve(settings, registry)
    dataset = find_dataset(data, registry, settings.labels or None, settings.data.reorient)
    folder = RunFolder(out or Path("runs") / dataset.description.name)
    with locked(folder.path) as word:
        progress = Listening(Logged(progress, folder.log), registry)
        folder.keep_settings(settings, components)
        with _told(folder, settings, progress) as evaluations:
            report = checked(dataset, folder, settings, progress)
            prepare_plan(dataset, folder, settings, components, report, progress, registry)
            components = components.with_normalisers(folder.plan(), registry)
            folder.keep_settings(settings, components)
            settings = _with_choices(settings, folder)
            refuse_unknown_levels(folder.plan(), settings, components.architecture)
            elsewhere = device_elsewhere(components.executor, components.uses["executor"], settings.device)
            costs = estimate(folder, settings, components, elsewhere)
            for line in costs.lines():
                progress.say(line)
            costs.refuse_without_space(folder.path)
            costs.refuse_without_memory()
            selection = None
            if not dry_run:
                found, selection = _train_and_validate(folder, settings, components, report, progress,
                                                       ("--within", word))
                evaluations.update(found)
                _write_report(folder, registry)
    return RunResult(folder=folder.path, estimate=costs, evaluations=evaluations, selection=selection,
                     records=report.records)


@contextmanager
def _told(folder: RunFolder, settings: Settings, progress: Progress) -> Iterator[dict[str, Evaluation]]:
    """Tell plugins that a run begins and how it ended; what is yielded is filled with its metrics."""
    evaluations: dict[str, Evaluation] = {}
    progress.tell(RunStarted(folder=folder.path, settings=settings))
    try:
        yield evaluations
    except BaseException as error:
        progress.tell(RunEnded(folder=folder.path, evaluations=evaluations, error=error))
        raise
    progress.tell(RunEnded(folder=folder.path, evaluations=evaluations))


def with_length(settings: Settings, registry: Registry) -> Settings:
    """`settings` with a length of training, nnU-Net's 1000 epochs on a GPU, 20 minutes a fold on a CPU, and recipe.

    Raises:
        SegError: no such device (exit 2), none in this machine (exit 5), as far as the trainings run here.
    """
    executor, use = registry.build("executor", settings.executor, settings.of("executor"))
    elsewhere = device_elsewhere(executor, use, settings.device)
    device = (named_devices(elsewhere) if elsewhere else choose_devices(settings.device))[0]
    if not (settings.epochs or settings.budget_s):
        length = {"epochs": GPU_EPOCHS} if device.type == "cuda" else {"budget_s": CPU_BUDGET_S}
        settings = attrs.evolve(settings, **length)
    return attrs.evolve(settings, recipe=settings.chosen_recipe)


def checked(dataset: Dataset, folder: RunFolder, settings: Settings, progress: Progress) -> CheckReport:
    """The check of every file; notes and warnings are said, faults refuse the data set.

    Raises:
        SegError: the faults of all cases (exit 3).
    """
    with timed(folder, "check"):
        kfold = not settings.splits and settings.folds != (FULL,)
        report = check(dataset, needs_folds=kfold, progress=progress)
        write_json(folder.path / "check.json", report.records)
        write_json(folder.path / "dataset.json", dataset)
    for record in report.records:
        if record.severity != "error":
            progress.say(str(record))
    if report.errors:
        raise SegError(list(report.errors))
    return report


def prepare_plan(  # noqa: PLR0913, PLR0917 - all that decides a plan
    dataset: Dataset, folder: RunFolder, settings: Settings, components: Components, report: CheckReport,
    progress: Progress, registry: Registry,
) -> Plan:  # fmt: skip
    """Fingerprint, plan and splits, each made anew only if what it comes from changed; plugins may amend the plan."""
    uses, splits = components.uses, make_splits(dataset.cases, settings.splits, report.same_images)
    for record in parted_images(splits, report.same_images):
        progress.say(str(record))
    source = digest_json([report.digests, to_data(dataset.description), to_data(uses["fingerprinter"])])
    file = folder.path / "fingerprint.json"
    with timed(folder, "fingerprint"):
        if not file.exists() or read_json(file, Fingerprint).source != source:
            write_json(file, make_fingerprint(dataset, components.fingerprinter, source=source, progress=progress,
                                              use=uses["fingerprinter"]))
    with timed(folder, "plan"):
        plan = _plan(dataset, folder.fingerprint(), settings, components)
        if not settings.plan:  # a plan that was given is taken as it is, and may be one that was amended before
            plan = amended(plan, folder.path, registry)
        write_json(folder.path / "splits.json", splits)
        write_json(folder.path / "plan.json", plan)  # last: from here on the folder is bound to its settings
    return plan


def _plan(dataset: Dataset, fingerprint: Fingerprint, settings: Settings, components: Components) -> Plan:
    uses = components.uses
    if settings.plan:
        return _given_plan(settings.plan, dataset)
    source = digest_json([to_data(fingerprint), to_data(uses["planner"]), to_data(uses["architecture"])])
    return make_plan(fingerprint, dataset.description, components.planner, uses["planner"].name,
                     components.architecture, uses["architecture"].name, source, uses)


def _given_plan(file: str, dataset: Dataset) -> Plan:
    """The plan in a file, if it is for images that lie as these do when they are read."""
    plan, wanted = read_plan_file(Path(file), dataset.description), dataset.description.orientation
    if plan.description.orientation != wanted:
        raise usage_error(f"a plan for images {_turned(plan.description.orientation)}", expected=_turned(wanted),
                          file=file, advice="Set data.reorient to the plan's.")
    return plan


def _turned(orientation: str) -> str:
    return f"turned to {orientation}" if orientation else "as they lie"


def _with_choices(settings: Settings, folder: RunFolder) -> Settings:
    """`settings` with configurations and folds by name, all of them known."""
    plan, count = folder.plan(), len(folder.splits())
    planned = list(plan.configurations)
    names = settings.configurations or (("3d_fullres",) if "3d_fullres" in planned else ("2d",))
    names = tuple(planned) if names == ("all",) else names
    for name in names:
        if name not in planned:
            raise usage_error(f"configuration {name!r}", expected=f"one of {', '.join(planned)}, or all")
    every = tuple(str(index) for index in range(count))
    folds = every if settings.folds in ((), ("all",)) else settings.folds
    for fold in folds:
        if fold != FULL and not fold.isdigit():
            raise usage_error(f"fold {fold!r}", expected=f"0 to {count - 1}, all or {FULL}")
        if fold != FULL and int(fold) >= count and any(case.group for case in folder.dataset().cases):
            raise usage_error(f"fold {fold}, which is drawn by chance and would part groups",
                              expected=f"0 to {count - 1}, all or {FULL}")
    return attrs.evolve(settings, configurations=names, folds=folds)


def _train_and_validate(
    folder: RunFolder, settings: Settings, components: Components, report: CheckReport, progress: Progress,
    words: Sequence[str],
) -> tuple[dict[str, Evaluation], Selection]:
    """Everything after the plan: metrics of every candidate, and the choice among them."""
    dataset, plan = folder.dataset(), folder.plan()
    wanted = trainings(settings.configurations, settings.folds, plan.configurations, len(folder.splits()))
    folds = {name: [Fold(folder=folder, settings=settings, components=components, plan=plan, configuration=name,
                         fold=fold) for fold in chosen] for name, chosen in wanted.items()}
    evaluations = {}
    for name, mine in folds.items():
        store = store_name(plan, name)
        with timed(folder, f"preprocess {store}"):
            how = Preparation(plan=plan, configuration=plan.configurations[store], normalisers=components.normalisers)
            refused = preprocess(dataset, how, folder.cases(store), digests=report.digests, progress=progress)
        if refused:
            raise SegError(list(refused))
        folds[name] = _trained(mine, words, progress)
        evaluations[name] = _together(folds[name], progress)
    with timed(folder, "selection"):
        selection = select(folds, evaluations, progress)
    with timed(folder, "bundle"):
        make_bundle(folds, selection, evaluations)
    return evaluations, selection


def _write_report(folder: RunFolder, registry: Registry) -> None:
    from seg.stages.report import write_report  # matplotlib costs a second

    with timed(folder, "report"):
        write_report(folder.path, registry)


def _trained(folds: list[Fold], words: Sequence[str], progress: Progress) -> list[Fold]:
    """Train the folds of a configuration, and set them to the level that is chosen, if it is."""
    train_folds(folds, words, progress)
    with timed(folds[0].folder, "levels"):
        return at_chosen_level(folds, progress)


def _together(folds: list[Fold], progress: Progress) -> Evaluation:
    """Metrics of a configuration over the validated cases of the folds that were asked for."""
    results = {fold.fold: validated(fold, progress) for fold in folds}
    first = folds[0]
    cases = [case for fold in first.settings.folds for case in results[fold].cases]
    together = evaluation(cases, list(first.plan.description.labels.foreground), first.settings.metrics.tolerance_mm,
                          directions(first.components.metrics))
    write_evaluation(together, first.folder.path / "validation" / first.configuration)
    return together
