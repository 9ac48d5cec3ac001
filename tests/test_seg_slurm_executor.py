"""Jobs of Slurm; the cluster is this machine, which submitit can play."""

import importlib.util
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from attrs import evolve

from seg import Exit, SegError, Silent, TrainingJob
from seg_slurm._command import Command
from seg_slurm.executor import SlurmExecutor

HERE = SlurmExecutor(cluster="local", gpus=0)


@pytest.fixture
def jobs(tmp_path):
    def make(*codes):
        return [TrainingJob(configuration="2d", fold=str(number), command=(sys.executable, "-c", code),
                            log=tmp_path / str(number) / "log.txt") for number, code in enumerate(codes)]

    return make


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_adds_to_its_log_and_passes_signals_on(tmp_path, number):
    log = tmp_path / "log.txt"
    log.write_text("before\n")
    child = ("import signal; signal.signal(signal.SIGTERM, lambda *_: exit(143)); "
             "print('begun', flush=True); signal.pause()")
    code = "import sys; from seg_slurm._command import Command; sys.exit(Command(sys.argv[2:], sys.argv[1])())"
    with subprocess.Popen([sys.executable, "-c", code, log, sys.executable, "-c", child]) as process:
        while "begun" not in log.read_text():
            assert process.poll() is None
        process.send_signal(number)
    assert process.returncode == 143
    assert log.read_text() == "before\nbegun\n"


def test_without_submitit_it_says_what_to_install(jobs, monkeypatch):
    monkeypatch.setattr("seg_slurm.executor.find_spec", lambda _: None)
    with pytest.raises(SegError, match=r"pip install 'segplug\[slurm\]'") as caught:
        SlurmExecutor().run(jobs("print()"), None, Silent())
    assert caught.value.exit_code == Exit.PLUGIN


@pytest.mark.parametrize(("options", "asked", "device"), [
    ({}, "auto", "cuda"), ({"gpus": 0}, "auto", "cpu"), ({}, "cpu", "cpu"), ({"gpus": 0}, "cuda", "cuda"),
    ({"cluster": "local"}, "auto", "auto"), ({"cluster": "local"}, "cpu", "cpu"),
])  # fmt: skip
def test_the_device_is_that_of_the_nodes(options, asked, device):
    assert SlurmExecutor(**options).training_device(asked) == device


@pytest.mark.parametrize(("device", "gpus"), [("cpu", 0), ("cuda", 2), ("auto", 2)])
def test_a_job_on_the_cpu_gets_no_gpu(jobs, monkeypatch, device, gpus):
    asked = {}
    executor = SimpleNamespace(update_parameters=asked.update)
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(AutoExecutor=lambda **_: executor))
    SlurmExecutor(gpus=2)._cluster(evolve(jobs("")[0], device=device))
    assert asked["gpus_per_node"] == gpus


if not importlib.util.find_spec("submitit"):
    pytest.skip("submitit is not installed", allow_module_level=True)


def test_each_training_is_a_job_whose_failure_leaves_the_others(jobs):
    asked = jobs("print('one')", "print('two'); raise SystemExit(3)", "print('three')")
    with pytest.raises(SegError) as caught:
        HERE.run(asked, None, Silent())
    assert caught.value.exit_code == Exit.DATA
    assert "2d fold 1 ended with exit code 3; last said: two" in caught.value.records[0].found
    assert [job.log.read_text() for job in asked] == ["one\n", "two\n", "three\n"]


def test_a_job_of_which_nothing_comes_back_is_told(jobs):
    kill = "import os, signal; os.kill(os.getppid(), signal.SIGKILL)"  # the one that would write the result
    with pytest.raises(SegError) as caught:
        HERE.run(jobs(kill), None, Silent())
    assert caught.value.exit_code == Exit.RESOURCES
    assert "last said: job " in caught.value.records[0].found


def test_out_of_time_it_is_queued_again(tmp_path):
    command = Command((sys.executable, "-c", "pass"), str(tmp_path / "log.txt"))
    again = command.checkpoint().function
    assert (again.words, again.log) == (command.words, command.log)


def test_without_slurm_it_says_so(jobs, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SegError, match="srun") as caught:
        SlurmExecutor().run(jobs("print()"), None, Silent())
    assert caught.value.exit_code == Exit.RESOURCES
