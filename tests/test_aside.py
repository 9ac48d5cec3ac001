"""Work by another thread: in order, with what it gives or raises, and left behind where it hangs."""

import gc
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest

from seg import SegError, Silent, aside
from seg.aside import Aside, any_left, in_threads, read_within, telling
from seg.events import CasePreprocessed

LONG = 60.0  # a wait that ends at once where nothing is broken


def test_things_are_done_in_order_by_one_other_thread():
    worker, done = Aside("work"), []

    def note(number):
        done.append((number, threading.current_thread()))
        return number * number

    found = [worker.submit(lambda number=number: note(number)) for number in range(20)]
    assert worker.end(LONG)
    assert [future.result() for future in found] == [number * number for number in range(20)]
    assert [number for number, _ in done] == list(range(20))
    threads = {thread for _, thread in done}
    assert len(threads) == 1
    assert threading.current_thread() not in threads


def test_what_is_raised_comes_with_the_result_and_stops_nothing():
    worker = Aside("work")

    def broken():
        raise KeyboardInterrupt

    failed, good = worker.submit(broken), worker.submit(lambda: "good")
    with pytest.raises(KeyboardInterrupt) as caught:
        failed.result(LONG)
    assert caught.traceback[-1].name == "broken"
    assert good.result(LONG) == "good"
    assert worker.end(LONG)


def test_nothing_to_do_is_no_thread():
    before = threading.active_count()
    worker = Aside("work")
    assert threading.active_count() == before
    assert worker.end()


def test_a_result_is_not_kept():
    class Large:
        pass

    worker = Aside("work")
    kept = weakref.ref(worker.submit(Large).result(LONG))
    worker.submit(lambda: None).result(LONG)  # the thread is behind the first one
    gc.collect()
    assert kept() is None
    worker.end(LONG)


def test_what_hangs_is_not_waited_for():
    worker, released = Aside("work"), threading.Event()
    worker.submit(released.wait)
    assert not worker.end(0)
    released.set()
    assert worker.end(LONG)


def test_a_process_ends_beside_what_hangs():
    code = "import threading; from seg.aside import Aside; Aside('work').submit(threading.Event().wait); print('end')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=LONG)
    assert done.stdout == "end\n"


class Heard(Silent):
    """A progress with a slow listener: it waits before each event until it may go on."""

    def __init__(self, *, slow=False):
        self.goes_on, self.told = threading.Event(), []
        if not slow:
            self.goes_on.set()

    def tell(self, event):
        assert self.goes_on.wait(LONG)
        if event.case == "bad":
            raise OSError("no server")
        self.told.append((event.case, threading.current_thread()))


def event(case):
    return CasePreprocessed(folder=Path(), configuration="2d", case=case)


def tell_all(progress, cases, error=None):
    """Tell of the cases; then something else goes wrong, perhaps."""
    with telling(progress) as tell:
        for case in cases:
            tell(event(case))
        if error:
            raise error


def test_a_slow_listener_holds_nobody_up_and_hears_all_in_order():
    heard = Heard(slow=True)
    with telling(heard) as tell:
        for case in "abc":
            tell(event(case))
        assert heard.told == []
        heard.goes_on.set()
    assert [case for case, _ in heard.told] == ["a", "b", "c"]
    assert threading.current_thread() not in {thread for _, thread in heard.told}


@pytest.mark.parametrize("cases", [["bad"], ["a", "bad", "b"]])
def test_what_telling_raises_comes_out(cases):
    heard = Heard()
    with pytest.raises(OSError, match="no server"):
        tell_all(heard, cases)


def test_after_an_error_all_is_told_but_a_listener_that_hangs_is_left(monkeypatch):
    heard = Heard()
    with pytest.raises(ValueError, match="mine"):
        tell_all(heard, "a", ValueError("mine"))
    assert [case for case, _ in heard.told] == ["a"]
    monkeypatch.setattr(aside, "LAST_S", 0.0)
    hangs = Heard(slow=True)
    with pytest.raises(ValueError, match="mine"):
        tell_all(hangs, "a", ValueError("mine"))
    hangs.goes_on.set()


def test_a_command_that_leaves_a_thread_behind_ends_without_pythons_end():
    """Such a thread may come back from a library of C++ meanwhile, which aborts the process."""
    code = ("import atexit, sys, threading; from seg.aside import Loose; from seg_cli.main import main; "
            "atexit.register(print, 'taken down'); {}sys.argv[1:] = ['--version']; main()")
    ends = []
    for thread in ("", "Loose('read', threading.Event().wait); "):
        done = subprocess.run([sys.executable, "-c", code.format(thread)], capture_output=True, text=True, check=True,
                              timeout=LONG)
        assert done.stdout.startswith("seg ")
        ends.append("taken down" in done.stdout)
    assert ends == [True, False]


def test_what_is_read_or_raised_in_time_is_given():
    assert read_within(LONG, Path("f"), lambda: threading.current_thread().name) == "read"
    with pytest.raises(ZeroDivisionError):
        read_within(LONG, Path("f"), lambda: 1 // 0)


def test_what_is_not_read_in_time_is_told_and_left_behind():
    mended = threading.Event()
    with pytest.raises(SegError, match=r"not read after 0\.01 s") as caught:
        read_within(0.01, Path("f"), mended.wait)
    (record,) = caught.value.records
    assert (record.code, record.file, caught.value.exit_code) == ("SEG-R10", "f", 5)
    assert any_left(0.0)
    mended.set()
    assert not any_left(LONG)


def alive():
    return {thread for thread in threading.enumerate() if thread.name == "work"}


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_give_what_one_loop_would_in_order(threads):
    assert list(in_threads(lambda number: number * number, range(20), threads)) == [n * n for n in range(20)]
    assert list(in_threads(str, [], threads)) == []
    assert not alive()


def test_so_many_threads_are_at_work_at_the_same_time():
    both = threading.Barrier(2)
    assert len(list(in_threads(lambda _: both.wait(LONG), range(6), 2))) == 6


def test_what_one_raises_comes_at_its_turn_and_then_nothing_further_is_begun(monkeypatch):
    monkeypatch.setattr(aside, "LEAVE_S", 0.01)
    begun, raised = [], threading.Event()

    def work(number):
        begun.append(number)
        if number == 1:
            raise ValueError(number)
        assert number == 0 or raised.wait(LONG)
        return number

    found = in_threads(work, range(100), 1)
    assert next(found) == 0
    with pytest.raises(ValueError, match="1"):
        next(found)
    raised.set()
    for thread in alive():
        thread.join(LONG)
    assert begun in ([0, 1], [0, 1, 2])


def test_who_ends_early_leaves_no_thread_unless_it_hangs(monkeypatch):
    monkeypatch.setattr(aside, "LEAVE_S", 0.01)
    mended = threading.Event()
    found = in_threads(lambda number: number and mended.wait(), range(100), 2)
    assert next(found) == 0
    found.close()
    assert alive()
    mended.set()
    for thread in alive():
        thread.join(LONG)
    assert not alive()
