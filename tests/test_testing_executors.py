"""The kit refuses broken executors."""

import contextlib
import itertools

import pytest
from attrs import frozen

from helpers import changed
from seg import Exit, Record, SegError
from seg.testing import checks


@frozen(kw_only=True)
class InTurn:
    """One job after the other; what was refused is told at the end."""

    def run(self, jobs, work, progress):
        refused = []
        for job in jobs:
            try:
                work(job)
            except SegError as error:
                refused.append(error)
        if refused:
            raise SegError([record for error in refused for record in error.records], refused[0].exit_code)


def running(run):
    return changed(InTurn, run=lambda self, jobs, work, progress: run(jobs, work))


def to_the_first_refusal(jobs, work):
    for job in jobs:
        work(job)


def without_a_word(jobs, work):
    for job in jobs:
        with contextlib.suppress(SegError):
            work(job)


def with_a_code_of_its_own(jobs, work):
    try:
        InTurn().run(jobs, work, None)
    except SegError as error:
        raise SegError(error.records, Exit.RESOURCES) from None


def elsewhere(answer):
    return changed(InTurn, training_device=lambda self, asked: answer(asked))


COUNT = itertools.count()
EXECUTORS = [
    ("component", object()),
    ("once", running(lambda jobs, work: work(jobs[0]))),
    ("once", running(lambda jobs, work: None)),
    ("once", running(lambda jobs, work: InTurn().run([*jobs, jobs[-1]], work, None))),
    ("refusal", running(to_the_first_refusal)),
    ("refusal", running(without_a_word)),
    ("refusal", running(with_a_code_of_its_own)),
    ("device", elsewhere(lambda asked: "cuda")),
    ("device", elsewhere(lambda asked: {"auto": "gpu"}.get(asked, asked))),
    ("device", elsewhere(lambda asked: None if asked == "auto" else asked)),
    ("device", elsewhere(lambda asked: f"cuda:{next(COUNT)}" if asked == "auto" else asked)),
]


@pytest.mark.parametrize("check", [pytest.param(check, id=check.id) for check in checks("executor")])
def test_a_sound_one_passes(check):
    check(InTurn())


@pytest.mark.parametrize(("name", "mutant"), EXECUTORS)
def test_mutants_do_not_pass(name, mutant):
    (check,) = [check for check in checks("executor") if check.id == f"executor-{name}"]
    with pytest.raises(AssertionError, match=r"^found .*; expected "):
        check(mutant)


@pytest.mark.parametrize("name", ["cpu", "cuda", "auto"])
def test_an_executor_may_say_where_trainings_run(name):
    for check in checks("executor"):
        check(elsewhere(lambda asked: name if asked == "auto" else asked))


def test_an_executor_may_refuse():
    def refuse(jobs, work):
        raise SegError(Record(code="SEG-P04", found="a package is missing"), Exit.PLUGIN)

    for check in checks("executor"):
        check(running(refuse))


def test_every_check_has_a_mutant():
    assert {check.id for check in checks("executor")} == {f"executor-{name}" for name, _ in EXECUTORS}
