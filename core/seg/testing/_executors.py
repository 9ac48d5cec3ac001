"""Laws of executors: where trainings run. The jobs here write a line into a file instead of training."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from seg.errors import Exit, Record, SegError
from seg.progress import Silent
from seg.testing._check import Check, expect
from seg.training_kinds import Executor, RemoteExecutor, TrainingJob

JOBS = 3
REFUSED = "1"  # the fold that fails where one shall
NAMED = ("cpu", "cuda", "cuda:0,cuda:1")  # devices
CODE = "import sys; open(sys.argv[1], 'a').write('done\\n'); sys.exit(int(sys.argv[2]))"


def _worked(executor: Executor, refused: str) -> tuple[list[int], SegError | None]:
    """How often each job was done, and what was raised."""
    with TemporaryDirectory() as name:
        folder = Path(name)

        def work(job: TrainingJob) -> None:
            with (folder / job.fold).open("a", encoding="utf-8") as stream:
                stream.write("done\n")
            if job.fold == refused:
                raise SegError(Record(code="SEG-T01", found=f"{job.name} cannot be trained"))

        folds = [str(index) for index in range(JOBS)]
        jobs = [TrainingJob(configuration="3d_fullres", fold=fold, log=folder / f"fold_{fold}" / "log.txt", command=(
            sys.executable, "-c", CODE, str(folder / fold), str(int(Exit.DATA) if fold == refused else 0)))
            for fold in folds]
        raised = None
        try:
            executor.run(jobs, work, Silent())
        except SegError as error:
            raised = error
        files = [folder / fold for fold in folds]
        return [len(file.read_text(encoding="utf-8").splitlines()) if file.exists() else 0 for file in files], raised


def _cannot(counts: list[int], raised: SegError | None) -> bool:
    """Whether an executor refuses to begin: a package or a cluster is missing."""
    return not any(counts) and raised is not None and raised.exit_code in (Exit.PLUGIN, Exit.RESOURCES)


def executor_once(executor: Executor) -> None:
    counts, raised = _worked(executor, "")
    if not _cannot(counts, raised):
        expect(counts == [1] * JOBS and raised is None, f"jobs done {counts} times, {raised} raised", "each once")


def executor_refusal(executor: Executor) -> None:
    counts, raised = _worked(executor, REFUSED)
    if _cannot(counts, raised):
        return
    expect(counts == [1] * JOBS, f"jobs done {counts} times where one is refused", "each once")
    told = raised is not None and raised.exit_code == Exit.DATA and f"fold {REFUSED}" in str(raised)
    expect(told, f"{raised!r} raised where a job is refused", f"SegError of fold {REFUSED} with exit code 3")


def executor_device(executor: Executor) -> None:
    if not isinstance(executor, RemoteExecutor):
        return
    for name in NAMED:
        found = executor.training_device(name)
        expect(found == name, f"training_device({name!r}) gave {found!r}", "what is asked for by name")
    found = executor.training_device("auto")
    expect(found == "auto" or _is_device(found), f"training_device('auto') gave {found!r}", "cpu, cuda …, or auto")
    again = executor.training_device("auto")
    expect(again == found, f"training_device('auto') gave {found!r}, then {again!r}", "the same answer")


def _is_device(name: object) -> bool:
    import torch

    try:
        return isinstance(name, str) and bool(torch.device(name))
    except RuntimeError:
        return False


CHECKS = (
    Check(id="executor-once", kind="executor", law=executor_once,
          reason="A run goes on when the executor comes back, so every training must be done then."),
    Check(id="executor-refusal", kind="executor", law=executor_refusal,
          reason="A training that fails in the night must be told, and must not cost the others."),
    Check(id="executor-device", kind="executor", law=executor_device,
          reason="Length and recipe are chosen for the device of the trainings, and each of them is told it."),
)
