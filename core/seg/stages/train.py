"""Train one configuration on one fold, from a run folder to weights."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import torch
from attrs import frozen
from safetensors.torch import save
from torch import Tensor

from seg.budget import Reduced, fit_budget, measure
from seg.choice import OURS
from seg.contracts import blamed, build_network, loss_weights, try_loss, try_network
from seg.convert import from_data, load_json, read_json, to_data, write_json
from seg.device import choose_device, choose_devices, keep_freed_memory
from seg.device_faults import told
from seg.distributed import Ranks, leading, meeting
from seg.errors import Exit, Record, SegError, usage_error
from seg.estimates import batch_parts, too_large
from seg.executing import command_of_seg, lifeline
from seg.files import digest_file, digest_json, locked, turn, write_bytes
from seg.losses import DeepSupervision
from seg.models import ComponentUse, Configuration, Plan
from seg.progress import Progress, Silent
from seg.provenance import advice_for, as_then, changed_versions
from seg.runfolder import Components, RunFolder
from seg.settings import Settings
from seg.splits import members
from seg.stages._cases import case_files, training_data
from seg.stages.cascade import previous_predictions
from seg.stages.preprocess import store_name
from seg.store import Store
from seg.training import Data, Job, Length, Trainer, train
from seg.training_kinds import TrainingJob

WEIGHTS = "weights.safetensors"
LOG = "log.txt"
REDUCED = "reduced.json"
SOURCE = "source.json"
DECIDING = ("architecture", "sampler", "augmenter", "planner", "loss", "recipe")  # the kinds on which weights depend


@frozen(kw_only=True)
class Fold:
    """What one training works on."""

    folder: RunFolder
    settings: Settings
    components: Components
    plan: Plan
    configuration: str
    fold: str

    @property
    def path(self) -> Path:
        """Where its weights lie."""
        return self.folder.training(self.configuration, self.fold)

    @property
    def store(self) -> Store:
        """The cases it works on."""
        return Store(self.folder.cases(store_name(self.plan, self.configuration)))

    @property
    def keeps_logits(self) -> bool:
        """Whether its validation keeps logits: where configurations are compared, pairs of them may be combined."""
        names = self.settings.configurations
        return len(self.plan.configurations if names == ("all",) else names) > 1

    @property
    def planned(self) -> Configuration:
        """The planner's configuration."""
        return self.plan.configurations[self.configuration]

    @property
    def seed(self) -> tuple[int, ...]:
        """The root of all its random numbers."""
        return self.settings.seed, sum(self.fold.encode())

    def source(self, uses: Mapping[str, ComponentUse] | None = None) -> str:
        """Digest of all that its weights come from, with other records of the components if `uses` are given."""
        settings, uses = self.settings, uses or self.components.uses
        store = self.store.manifest
        planned = attrs.evolve(self.planned, reasons={})  # other words are no other plan
        parts = [to_data(store), to_data(planned), settings.train.deciding, settings.seed, settings.epochs,
                 settings.budget_s, members(self.folder.splits(), self.fold, store.cases)[0],
                 *(to_data(uses[kind]) for kind in DECIDING),
                 {case: handed.digest for case, handed in previous_predictions(self).items()}]
        return digest_json(parts)

    def job(self, *words: str) -> TrainingJob:
        """Its training as another process does it, with the same plugins; `words` are further ones of the command."""
        run = self.folder.path.resolve()
        command = (*command_of_seg(), "train", str(run), "--config", self.configuration, "--fold", self.fold, *words,
                   *self.components.choice.words())
        return TrainingJob(configuration=self.configuration, fold=self.fold, command=command,
                           log=self.path.resolve() / LOG, device=self.settings.device)

    def made_with(self) -> dict[str, ComponentUse]:
        """The components that decided its weights, as recorded when its training began; before, as they are now."""
        file = self.path / SOURCE
        stored = load_json(file).get("components", {}) if file.exists() else {}
        recorded = {kind: from_data(use, ComponentUse, file=str(file)) for kind, use in stored.items()}
        return {kind: recorded.get(kind, self.components.uses[kind]) for kind in DECIDING}

    def trained(self) -> Configuration:
        """The configuration as it was trained: the planned one, or what a budget made of it."""
        file = self.path / REDUCED
        return read_json(file, Reduced).configuration if file.exists() else self.planned

    def reasons(self) -> tuple[str, ...]:
        """Why the trained configuration is not the planned one; empty if it is."""
        file = self.path / REDUCED
        return read_json(file, Reduced).reasons if file.exists() else ()


def train_fold(fold: Fold, progress: Progress | None = None) -> bool:
    """Train, resume or keep the weights of a fold; returns whether anything had to be done.

    Raises:
        SegError: the case store is not complete (exit 3); the folder holds a training of something else (exit 2), or
            one that was begun with another version of a plugin (exit 6); another process works in it, or the device
            is too small for it, or failed (exit 5).
        Interrupted: a signal stopped it, its state is saved.
    """
    progress = progress or Silent()
    _require_all_cases(fold)
    source = fold.source()
    if _is_done(fold, source, progress):
        progress.say(f"{fold.configuration} fold {fold.fold}: trained already")
        return False
    devices = choose_devices(fold.settings.device)
    device = devices[0]
    if device.type == "cpu":
        keep_freed_memory()
    if fault := too_large(fold.components, fold.plan, fold.planned, fold.settings):
        raise SegError(fault, Exit.RESOURCES)
    with ExitStack() as files:
        files.enter_context(told(fold.path, str(device), lambda: "before or after the steps"))
        files.enter_context(locked(fold.path))  # against a process of a run that was killed
        write_json(fold.path / SOURCE, {"source": source, "components": to_data(fold.made_with())})
        data = training_data(fold, device, files.enter_context(case_files()), progress)
        started = time.monotonic()
        if fold.settings.budget_s:
            with turn(fold.path.parent):  # of folds that begin together, one settles it for all
                _reduce(fold, data, device, progress)
        ranks = files.enter_context(_ranks(fold, devices))
        weights = train(_job(fold, data, device, time.monotonic() - started, ranks), progress)
        write_bytes(fold.path / WEIGHTS, save(weights))
        write_json(fold.path / "done.json", {"source": source, "weights": digest_file(fold.path / WEIGHTS)})
    return True


def join_fold(fold: Fold, ranks: Ranks, place: Path, progress: Progress) -> None:
    """Work on a share of each batch of a training that another process leads (see `seg.distributed`)."""
    device = choose_device(fold.settings.device)
    with ExitStack() as files:
        files.enter_context(told(fold.path, str(device), lambda: "before or after the steps"))
        files.enter_context(meeting(ranks, place, device))
        data = training_data(fold, device, files.enter_context(case_files()), progress)
        train(_job(fold, data, device, 0.0, ranks), progress)


@contextmanager
def _ranks(fold: Fold, devices: Sequence[torch.device]) -> Iterator[Ranks]:
    """The other ranks of a training on several devices, started; none on one device.

    Raises:
        SegError: a batch cannot be shared out so (exit 2); another rank failed.
    """
    if len(devices) == 1:
        yield Ranks()
        return
    batch = fold.trained().batch
    if len(devices) > batch:
        raise usage_error(f"{len(devices)} devices for batches of {batch}", expected=f"at most {batch}")
    job = fold.job()
    before = torch.get_num_threads()
    threads = max(1, before // len(devices))
    torch.set_num_threads(threads)
    try:
        with lifeline() as line, leading(job, devices, line, {**os.environ, "OMP_NUM_THREADS": str(threads)}) as ranks:
            yield ranks
    finally:
        torch.set_num_threads(before)


def _require_all_cases(fold: Fold) -> None:
    """Nothing is begun on a part of the cases: the training would be bound to it."""
    store = fold.store
    absent = sorted({case.id for case in fold.folder.dataset().cases} - set(store.cases))
    if absent:
        names = ", ".join(absent[:5])
        raise SegError(Record(code="SEG-D31", found=f"{len(absent)} cases are not preprocessed: {names}",
                              file=str(store.folder), advice="Run `seg run` or `seg preprocess` again."))


def _is_done(fold: Fold, source: str, progress: Progress) -> bool:
    """Whether the weights are there and whole; those that another version of a plugin made are kept, and said."""
    weights, done = fold.path / WEIGHTS, fold.path / "done.json"
    whole = done.exists() and weights.exists() and digest_file(weights) == load_json(done).get("weights")
    begun = fold.path / SOURCE
    if begun.exists() and load_json(begun).get("source") != source:
        changed = _refuse_other_source(fold, load_json(begun).get("source"), whole=whole)
        progress.say(f"{fold.configuration} fold {fold.fold}: trained with {changed}; it is kept")
    return whole


def _refuse_other_source(fold: Fold, begun: str, *, whole: bool) -> str:
    """Refuse a training of something else, and going on with one under another version of a plugin; tells the versions.

    A finished training is a result like any other: what it was made with is in its record.
    """
    then, what = fold.made_with(), f"{fold.configuration} fold {fold.fold}"
    changed = "; ".join(changed_versions(then, fold.components.uses))
    if not changed or fold.source(as_then(then, fold.components.uses)) != begun:
        note = f"; it was begun with {changed}" if changed else ""
        raise SegError(Record(code="SEG-C07", found=f"{what} holds a training of other cases or settings{note}",
                              file=str(fold.path), advice="Choose another folder with -o, or delete this one."),
                       Exit.USAGE)
    if not whole:
        old = next(use for kind, use in then.items() if use.version != fold.components.uses[kind].version)
        raise SegError(Record(code="SEG-P11", found=f"{what} was begun with {changed}", file=str(fold.path),
                              advice=f"Go on with the old version ({advice_for(old)}), or start again in another "
                              "folder (-o)."), Exit.PLUGIN)
    return changed


def _reduce(fold: Fold, data: Data, device: torch.device, progress: Progress) -> None:
    """Settle once for all which form of the network is trained within the budget: one for all folds of a configuration.

    Their outputs are combined, and a model describes a configuration once.
    """
    file, seconds = fold.path / REDUCED, fold.settings.budget_s
    if file.exists():
        return
    if others := sorted(fold.path.parent.glob(f"*/{REDUCED}")):
        write_json(file, read_json(others[0], Reduced))
        return

    def step_seconds(configuration: Configuration) -> float:
        job = _make_job(fold, configuration, data, device, Length(seconds=seconds))
        trainer = Trainer.fresh(job)
        batch = job.make_batch(0)
        return measure(lambda: trainer.train_step(batch), device)

    reduced = fit_budget(fold.planned, fold.components.planner, fold.components.architecture, seconds,
                         fold.settings.train.min_steps, step_seconds)
    write_json(file, reduced)
    for reason in reduced.reasons:
        progress.say(f"budget: {reason}")


def _job(fold: Fold, data: Data, device: torch.device, used: float, ranks: Ranks) -> Job:
    settings = fold.settings
    steps = settings.epochs * settings.train.steps_per_epoch
    length = Length(seconds=settings.budget_s) if settings.budget_s else Length(steps=steps)
    job = _make_job(fold, fold.trained(), data, device, length)
    _try(fold, job)
    if ranks.count > 1 and (not job.loss.takes_parts or _mixes_samples(job.network)):
        raise usage_error("several devices for a loss, or a network with batch norm, that must see whole batches",
                          expected="one device")
    return attrs.evolve(job, ranks=ranks, used_s=used if settings.budget_s else 0.0)


def _try(fold: Fold, job: Job) -> None:
    """Network and loss do what their kinds promise. Ours are held to that by tests; their networks take seconds."""
    uses, labels = fold.components.uses, fold.plan.description.labels
    if uses["architecture"].distribution != OURS:
        try_network(job.network, job.configuration, job.loss.weights, uses["architecture"])
    try_loss(job.loss.criterion, labels, job.configuration, uses["loss"])


def _make_job(fold: Fold, configuration: Configuration, data: Data, device: torch.device, length: Length) -> Job:
    labels, components = fold.plan.description.labels, fold.components
    use = components.uses["architecture"]
    weights = loss_weights(components.architecture, configuration.topology, use)
    network = new_network(components, configuration, fold.seed)
    with blamed(components.uses["loss"], "build"):
        criterion = components.loss.build(labels, configuration)
    loss = DeepSupervision(criterion=criterion, weights=weights)
    return Job(
        folder=fold.path, fold=fold.fold, configuration=configuration, data=data, length=length, device=device,
        seed=fold.seed, network=network,
        parts=_parts(fold, configuration, network, device) if loss.takes_parts else 1, loss=loss,
        recipe=components.recipe, options=fold.settings.train,
        saves_aside=device.type != "cpu",  # whose cores the network keeps busy
    )


def _parts(fold: Fold, configuration: Configuration, network: torch.nn.Module, device: torch.device) -> int:
    """In how many parts a batch is worked on: on a CPU, so many that the feature maps of one take at most PART_BYTES.

    One where the samples of a batch are not independent of each other in the network: batch norm.
    """
    labels = fold.plan.description.labels
    if device.type != "cpu" or _mixes_samples(network):
        return 1
    architecture = fold.components.architecture
    values = architecture.feature_map_size(configuration.topology, configuration.patch, len(labels.values))
    return batch_parts(configuration.batch, values)


def _mixes_samples(network: torch.nn.Module) -> bool:
    return any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in network.modules())  # noqa: SLF001


def new_network(components: Components, configuration: Configuration, seed: tuple[int, ...]) -> torch.nn.Module:
    """A network with fresh weights that depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(digest_json(list(seed))[:15], 16))
        return build_network(components.architecture, configuration.topology, components.uses["architecture"])


def read_weights(fold: Fold) -> dict[str, Tensor]:
    """The trained weights of a fold; raises as `weights_file` does."""
    from safetensors.torch import load_file

    weights: dict[str, Any] = load_file(weights_file(fold))
    return weights


def weights_file(fold: Fold) -> Path:
    """Where the trained weights of a fold lie.

    Raises:
        SegError: there are none (exit 2).
    """
    file = fold.path / WEIGHTS
    if not file.exists():
        raise SegError(Record(code="SEG-C08", found=f"{fold.configuration} fold {fold.fold} is not trained",
                              file=str(file), advice="Run `seg train` or `seg run` first."), Exit.USAGE)
    return file
