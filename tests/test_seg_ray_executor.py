"""Tasks of Ray. It is stood for where it is not installed: what our code does with it, and tasks in processes."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
import torch
from attrs import evolve

from seg import Exit, SegError, Silent, TrainingJob
from seg_ray._command import run_command
from seg_ray.executor import RayExecutor

SAVES = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), exit(143))); "
WAITS = SAVES + "print('begun', flush=True); time.sleep(60)"
INSTALLED = bool(importlib.util.find_spec("ray"))


class TaskError(Exception):
    """What a task raised, as Ray gives it on."""

    def __init__(self, cause):
        super().__init__(f"ray::run_command()\n{cause}")
        self.cause = cause


class Task:
    """A function in a process of its own."""

    CODE = "import json, sys; from seg_ray._command import run_command; print(run_command(*json.loads(sys.argv[1])))"

    def __init__(self, *words):
        self.process = subprocess.Popen([sys.executable, "-c", self.CODE, json.dumps(words)], stderr=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def result(self):
        out, err = self.process.communicate()
        if self.process.returncode < 0:
            raise RuntimeError("The worker died unexpectedly.\nCheck its logs.")
        if self.process.returncode:
            raise TaskError(FileNotFoundError(err.strip().splitlines()[-1].partition(": ")[2]))
        return int(out)


class Stub(ModuleType):
    """The part of Ray that is used. Of what it is told it writes down all but the tasks."""

    def __init__(self):
        super().__init__("ray")
        self.__spec__ = ModuleSpec("ray", None)
        self.calls, self.tasks, self.asked, self.has, self.fails = [], [], [], {"CPU": 8.0, "GPU": 2.0}, None

    def is_initialized(self):
        return ("init",) in self.calls

    def init(self, **words):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))  # as Ray does
        self.calls.append(("init", words))
        if self.fails:
            raise self.fails

    def shutdown(self):
        self.calls.append(("shutdown", {}))

    def cluster_resources(self):
        return self.has

    def remote(self, function):
        assert function is run_command
        return self

    def options(self, **words):
        self.asked.append(words)
        made = ModuleType("task")
        made.remote = lambda *arguments: self.tasks.append(Task(*arguments)) or self.tasks[-1]
        return made

    def wait(self, tasks, timeout):
        assert timeout == 0
        done = [task for task in tasks if task.process.poll() is not None]
        return done, [task for task in tasks if task not in done]

    def get(self, task):
        return task.result()

    def cancel(self, task, *, force=False):
        task.process.send_signal(signal.SIGKILL if force else signal.SIGINT)


@pytest.fixture
def ray(monkeypatch):
    stub = Stub()
    monkeypatch.setitem(sys.modules, "ray", stub)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield stub
    for task in stub.tasks:
        task.process.kill()
        task.process.communicate()


@pytest.fixture
def jobs(tmp_path):
    def make(*codes, device="cpu"):
        return [TrainingJob(configuration="2d", fold=str(number), command=(sys.executable, "-c", code), device=device,
                            log=tmp_path / str(number) / "log.txt") for number, code in enumerate(codes)]

    return make


class Said(Silent):
    """Keeps what is said, and is interrupted by `word`."""

    def __init__(self, word=""):
        self.lines, self._word = [], word

    def say(self, text):
        self.lines.append(text)
        if self._word and self._word in text:
            raise KeyboardInterrupt


def test_each_training_is_a_task_whose_failure_leaves_the_others(jobs, ray):
    asked, said = jobs("print('one')", "print('two'); raise SystemExit(3)", "print('three')"), Said()
    asked[0].log.parent.mkdir()
    asked[0].log.write_text("before\n")
    with pytest.raises(SegError) as caught:
        RayExecutor().run(asked, None, said)
    assert caught.value.exit_code == Exit.DATA
    (record,) = caught.value.records
    assert (record.code, record.file) == ("SEG-T02", str(asked[1].log))
    assert "2d fold 1 ended with exit code 3; last said: two" in record.found
    assert [job.log.read_text() for job in asked] == ["before\none\n", "two\n", "three\n"]
    assert "2d fold 2: three" in said.lines


@pytest.mark.parametrize(("options", "device", "share"), [
    ({}, "cpu", (1, 0.0)), ({}, "cuda", (1, 1.0)), ({}, "auto", (1, 0.0)), ({"gpus": 2}, "cuda:0,cuda:1", (1, 2.0)),
    ({"gpus": 0.5, "cpus": 4}, "cuda:0", (4, 0.5)),
])  # fmt: skip
def test_cores_and_gpus_are_asked_for_and_no_gpu_on_the_cpu(jobs, ray, monkeypatch, options, device, share):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    RayExecutor(**options).run(jobs("", device=device), None, Silent())
    assert ray.asked == [{"name": "seg 2d fold 0", "num_cpus": share[0], "num_gpus": share[1], "max_retries": 0}]


@pytest.mark.parametrize(("options", "address", "asked", "device"), [
    ({}, "", "auto", "auto"), ({}, "", "cpu", "cpu"), ({}, "ray://head:10001", "auto", "cuda"),
    ({"address": "auto"}, "", "auto", "cuda"), ({"address": "auto", "gpus": 0}, "", "auto", "cpu"),
    ({"gpus": 0}, "", "auto", "cpu"), ({"address": "auto"}, "", "cpu", "cpu"), ({"gpus": 0}, "", "cuda:1", "cuda:1"),
])  # fmt: skip
def test_the_device_is_that_of_the_cluster(monkeypatch, options, address, asked, device):
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert RayExecutor(**options).training_device(asked) == device


def test_a_cluster_of_its_own_ends_with_the_run_also_with_one_that_fails(jobs, ray):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SegError):
        RayExecutor().run(jobs("raise SystemExit(3)"), None, Silent())
    (init, words), end = ray.calls
    assert (init, words["address"], words["include_dashboard"]) == ("init", "local", False)
    assert end == ("shutdown", {})
    assert not Path(words["_temp_dir"]).exists()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(("address", "variable"), [("auto", ""), ("10.0.0.1:6379", "elsewhere"), ("", "10.0.0.1:6379")])
def test_a_running_cluster_is_told_nothing_of_how_to_start(jobs, ray, monkeypatch, address, variable):
    monkeypatch.setenv("RAY_ADDRESS", variable)
    RayExecutor(address=address).run(jobs(""), None, Silent())
    ((_, words), end) = ray.calls
    assert words["address"] == (address or variable)
    assert not {"_temp_dir", "include_dashboard", "object_store_memory"} & set(words)
    assert end == ("shutdown", {})


def test_what_the_calling_program_began_stays(jobs, ray):
    ray.calls.append(("init",))
    RayExecutor().run(jobs(""), None, Silent())
    assert ray.calls == [("init",)]


@pytest.mark.parametrize("error", [ConnectionError("nobody\nthere"), RuntimeError("another version"), ValueError("x")])
def test_a_cluster_that_cannot_be_reached_is_told(jobs, ray, error):
    before, ray.fails = signal.getsignal(signal.SIGTERM), error
    with pytest.raises(SegError, match=f"at 10.0.0.1:6379: {type(error).__name__}: ") as caught:
        RayExecutor(address="10.0.0.1:6379").run(jobs(""), None, Silent())
    assert (caught.value.exit_code, caught.value.records[0].code) == (Exit.RESOURCES, "SEG-R08")
    assert "there" not in caught.value.records[0].found
    assert ray.calls[-1] == ("shutdown", {})
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_this_machine_never_has_is_refused_and_a_cluster_may_grow(jobs, ray):
    said, ray.has = Said(), {"CPU": 2.0}
    for executor, device in ((RayExecutor(cpus=3), "cpu"), (RayExecutor(), "cuda")):
        with pytest.raises(SegError, match="2 CPU and 0 GPU in this machine") as caught:
            executor.run(jobs("", device=device), None, Silent())
        assert caught.value.exit_code == Exit.RESOURCES
    assert ray.asked == []
    RayExecutor(address="auto").run(jobs("", device="cuda"), None, said)
    assert any("wait until" in line for line in said.lines)
    assert len(ray.asked) == 1


def test_an_interruption_cancels_the_tasks_which_save(jobs, ray):
    asked = jobs(WAITS, WAITS)
    with pytest.raises(KeyboardInterrupt):
        RayExecutor().run(asked, None, Said("begun"))
    assert ray.calls[-1] == ("shutdown", {})
    assert all(task.process.returncode is not None for task in ray.tasks)
    begun = [job.log.read_text() for job in asked if job.log.exists() and "begun" in job.log.read_text()]
    assert begun
    assert all(text == "begun\nsaved\n" for text in begun)


def test_a_worker_that_dies_is_told(jobs, ray):
    kill = "import os, signal; print('begun', flush=True); os.kill(os.getppid(), signal.SIGKILL)"
    with pytest.raises(SegError, match="2d fold 0 was killed") as caught:
        RayExecutor().run(jobs(kill), None, Silent())
    assert caught.value.exit_code == Exit.RESOURCES
    assert "begun | RuntimeError: The worker died unexpectedly." in caught.value.records[0].found


def test_a_node_that_does_not_see_the_run_folder_is_told(jobs, ray, monkeypatch, tmp_path):
    (job,) = jobs("print('never')")
    remote = ray.options
    monkeypatch.setattr(ray, "options", lambda **words: elsewhere(remote(**words)))

    def elsewhere(task):
        made = ModuleType("task")
        made.remote = lambda words, log: task.remote(words, str(tmp_path / "nowhere" / "log.txt"))
        return made

    with pytest.raises(SegError, match="ended with exit code 5") as caught:
        RayExecutor().run([job], None, Silent())
    assert f"does not see {tmp_path / 'nowhere'}" in caught.value.records[0].found


def test_a_command_ends_when_its_worker_is_killed(tmp_path):
    end = tmp_path / "end"
    child = f"import os; print('begun', flush=True); os.read(0, 1); open({str(end)!r}, 'w').close()"
    task = Task((sys.executable, "-c", child), str(tmp_path / "log.txt"))
    while not (tmp_path / "log.txt").exists() or "begun" not in (tmp_path / "log.txt").read_text():
        assert task.process.poll() is None
    task.process.kill()
    task.process.communicate()
    while not end.exists():  # the timeout of the test is the limit
        pass


def test_without_ray_it_says_what_to_install(jobs, monkeypatch):
    monkeypatch.setattr("seg_ray.executor.find_spec", lambda _: None)
    with pytest.raises(SegError, match=r"pip install 'segplug\[ray\]'") as caught:
        RayExecutor().run(jobs("print()"), None, Silent())
    assert (caught.value.exit_code, caught.value.records[0].code) == (Exit.PLUGIN, "SEG-P04")


@pytest.mark.parametrize("words", ["list-plugins", "--help"])
def test_what_only_lists_does_not_import_ray(tmp_path, words):
    (tmp_path / "ray.py").write_text("raise SystemExit('imported')")
    code = "from seg_cli.main import main; import seg_ray.executor; main()"
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run([sys.executable, "-c", code, words], env={**os.environ, "PYTHONPATH": path},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not INSTALLED, reason="ray is not installed")
def test_the_real_ray(jobs, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    asked = [evolve(job, device="cpu") for job in jobs("print('one')", "print('two'); raise SystemExit(3)", WAITS)]
    with pytest.raises(SegError, match="2d fold 1 ended with exit code 3; last said: two") as caught:
        RayExecutor().run(asked[:2], None, Silent())
    assert caught.value.exit_code == Exit.DATA
    assert asked[0].log.read_text() == "one\n"
    with pytest.raises(KeyboardInterrupt):
        RayExecutor().run(asked[2:], None, Said("begun"))
    assert asked[2].log.read_text() == "begun\nsaved\n"
