"""Trainings in this process, one after the other, or side by side in others."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from seg import Exit, Record, SegError, Silent, TrainingJob
from seg_basic.executors import DevicesExecutor, LocalExecutor

TELLS = """
import json, os, sys, time
from pathlib import Path
time.sleep(0.2)
print(json.dumps([sys.argv[1:], os.environ["OMP_NUM_THREADS"], os.getsid(0) == os.getpid()]))
"""


@pytest.fixture
def jobs(tmp_path):
    def make(count, code=TELLS):
        return [TrainingJob(configuration="2d", fold=str(number), command=(sys.executable, "-c", code),
                            log=tmp_path / str(number) / "log.txt") for number in range(count)]

    return make


def no_work(job):
    raise AssertionError("nothing is done in this process")


def told(job):
    return json.loads(job.log.read_text())


def test_local_works_in_order_in_this_process(jobs):
    done, asked = [], jobs(3)
    LocalExecutor().run(asked, done.append, Silent())
    assert done == asked
    assert not any(job.log.exists() for job in asked)


def test_local_ends_where_a_read_of_this_process_hangs(jobs):
    done = []

    def work(job):
        done.append(job.fold)
        raise SegError(Record(code="SEG-R10", found="no batch"), Exit.RESOURCES)

    with pytest.raises(SegError, match="SEG-R10"):
        LocalExecutor().run(jobs(3), work, Silent())
    assert done == ["0"]


def test_local_goes_on_after_a_refusal_and_tells_each_once(jobs):
    done, shared = [], Record(code="SEG-D31", found="no cases")

    def work(job):
        done.append(job.fold)
        if job.fold != "1":
            own = Record(code="SEG-T01", found=f"no numbers in {job.name}")
            raise SegError([shared, own], Exit.RESOURCES if job.fold == "0" else Exit.DATA)

    with pytest.raises(SegError) as caught:
        LocalExecutor().run(jobs(3), work, Silent())
    assert done == ["0", "1", "2"]
    assert [record.found for record in caught.value.records] == ["no cases", "no numbers in 2d fold 0",
                                                                 "no numbers in 2d fold 2"]
    assert caught.value.exit_code == Exit.RESOURCES


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_local_stops_at_what_is_no_refusal(jobs, error):
    done = []

    def work(job):
        done.append(job)
        raise error

    with pytest.raises(error):
        LocalExecutor().run(jobs(3), work, Silent())
    assert len(done) == 1


def test_each_device_has_one_job_at_a_time_and_its_share_of_the_threads(jobs):
    asked = jobs(4)
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    try:
        DevicesExecutor(devices=("cpu", "cuda:7")).run(asked, no_work, Silent())
    finally:
        torch.set_num_threads(before)
    words, threads, own_session = zip(*map(told, asked), strict=True)
    assert {tuple(each) for each in words} == {("--device", name, "--with-parent") for name in ("cpu", "cuda:7")}
    assert set(threads) == {"3"}
    assert all(own_session)


def test_auto_is_every_cuda_device_or_the_cpu(jobs, monkeypatch):
    for count, names in ((0, {"cpu"}), (2, {"cuda:0", "cuda:1"})):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        asked = jobs(2)
        DevicesExecutor().run(asked, no_work, Silent())
        assert {json.loads(job.log.read_text().splitlines()[-1])[0][1] for job in asked} == names


def test_no_device_is_refused(jobs):
    with pytest.raises(SegError, match="without a device") as caught:
        DevicesExecutor(devices=()).run(jobs(1), no_work, Silent())
    assert caught.value.exit_code == Exit.USAGE


PARENT = """
import sys
from pathlib import Path
from seg import Silent, TrainingJob
from seg_basic.executors import DevicesExecutor
class Said(Silent):
    def say(self, text):
        print(text, flush=True)
job = TrainingJob(configuration="2d", fold="0", command=(sys.executable, "-c", sys.argv[2]), log=Path(sys.argv[1]))
DevicesExecutor(devices=("cpu",)).run([job], None, Said())
"""


def test_when_the_parent_is_killed_the_input_of_its_children_ends(tmp_path):
    child = f"import os; print('begun', flush=True); os.read(0, 1); open({str(tmp_path / 'end')!r}, 'w').close()"
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log.txt"), child]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert next(parent.stdout) == "2d fold 0: begun\n"
        assert not (tmp_path / "end").exists()
        os.kill(parent.pid, signal.SIGKILL)
    while not (tmp_path / "end").exists():  # the timeout of the test is the limit
        pass
