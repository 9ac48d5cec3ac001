"""Processes of jobs are followed: their lines are said, their failures told, and none is left behind."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from seg import Exit, SegError, Silent, TrainingJob, supervise

WAITING = "import time; print('begun', flush=True); time.sleep(60)"


class Said(Silent):
    """Keeps what is said, and does `at` once something with `word` is."""

    def __init__(self, word="", at=None):
        self.lines, self._word, self._at = [], word, at

    def say(self, text):
        self.lines.append(text)
        if self._at and self._word in text:
            self._at()


@pytest.fixture
def make(tmp_path):
    """A job for each code of Python, and the function that starts it; `start.processes` has what was started."""

    def made(*codes):
        jobs = [TrainingJob(configuration="2d", fold=str(number), command=(sys.executable, "-c", code),
                            log=tmp_path / f"{number}.txt") for number, code in enumerate(codes)]
        processes, slots = [], []

        def start(job, slot):
            with job.log.open("ab") as log:
                processes.append(subprocess.Popen(job.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
            slots.append(slot)
            return processes[-1]

        start.processes, start.slots = processes, slots
        return jobs, start

    return made


def refused(jobs, start, limit=2, progress=None):
    with pytest.raises(SegError) as caught:
        supervise(jobs, start, progress or Said(), limit=limit)
    return caught.value


def test_new_lines_are_said_under_the_name_of_their_job(make):
    jobs, start = make("print('one'); print(); print('two')", "print('three')")
    jobs[1].log.write_text("of an earlier start\n")
    said = Said()
    supervise(jobs, start, said, limit=2)
    assert sorted(said.lines) == ["2d fold 0: one", "2d fold 0: two", "2d fold 1: three"]


def test_no_more_than_the_limit_at_a_time_each_in_a_slot_of_its_own(make, tmp_path):
    code = f"""
import os, sys, time
from pathlib import Path
here = Path({str(tmp_path)!r}, "here")
here.mkdir(exist_ok=True)
mine = here / str(os.getpid())
mine.touch()
time.sleep(0.3)
print(len(list(here.iterdir())))
mine.unlink()
"""
    jobs, start = make(*[code] * 5)
    said = Said()
    supervise(jobs, start, said, limit=2)
    assert len(said.lines) == 5
    assert {line[-1] for line in said.lines} <= {"1", "2"}
    assert set(start.slots) == {0, 1}


def test_one_that_fails_is_told_with_code_and_last_lines_and_the_others_go_on(make):
    jobs, start = make("print('a'); print('no room'); raise SystemExit(5)", "print('well')", "raise SystemExit(3)")
    said = Said()
    error = refused(jobs, start, 1, said)
    assert error.exit_code == Exit.RESOURCES  # the first one's
    first, second = error.records
    assert (first.code, first.file) == ("SEG-T02", str(jobs[0].log))
    assert "2d fold 0 ended with exit code 5; last said: a | no room" in first.found
    assert "2d fold 2 ended with exit code 3" in second.found
    assert "2d fold 1: well" in said.lines
    assert any(str(first) == line for line in said.lines)  # at once, too


@pytest.mark.parametrize(("code", "words", "exit_code"), [
    ("import os; os.kill(os.getpid(), 9)", "was killed (SIGKILL)", Exit.RESOURCES),
    ("import os; os.kill(os.getpid(), 15)", "was stopped by SIGTERM", Exit.RESOURCES),
    ("raise SystemExit(143)", "was stopped by SIGTERM", Exit.RESOURCES),
    ("raise SystemExit(1)", "ended with exit code 1", Exit.BUG),
    ("raise SystemExit(77)", "ended with exit code 77", Exit.RESOURCES),
])  # fmt: skip
def test_how_a_process_ended_is_told(make, code, words, exit_code):
    error = refused(*make(code))
    assert words in error.records[0].found
    assert error.exit_code == exit_code


def test_whatever_stops_it_the_processes_end_in_order(make):
    saves = f"import signal; signal.signal(signal.SIGTERM, lambda *_: exit(143)); {WAITING}"
    jobs, start = make(saves, saves)
    count = []

    def stop():
        count.append(1)
        if len(count) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        supervise(jobs, start, Said("begun", stop), limit=2)
    assert [process.poll() for process in start.processes] == [143, 143]


def test_a_second_ctrl_c_kills(make):
    deaf = f"import signal; signal.signal(signal.SIGTERM, lambda *_: print('deaf', flush=True))\n{WAITING}"
    jobs, start = make(deaf)

    def stop():
        def again():
            while b"deaf" not in Path(jobs[0].log).read_bytes():
                pass
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=again, daemon=True).start()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        supervise(jobs, start, Said("begun", stop), limit=1)
    assert start.processes[0].poll() == -signal.SIGKILL


def test_one_that_cannot_be_started_ends_the_others(make):
    jobs, start = make(WAITING, WAITING)

    def once(job, slot):
        if start.processes:
            raise OSError(12, "no memory")
        return start(job, slot)

    with pytest.raises(OSError, match="no memory"):
        supervise(jobs, once, Said(), limit=2)
    assert start.processes[0].poll() == -signal.SIGTERM
