"""What plugins hear of a run and do to it: a failing one stops nothing, except where results depend on it."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import pytest
from attrs import evolve

from seg import Description, Fingerprint, Intensities, Labels, Section, SegError, Silent
from seg.errors import Exit
from seg.events import CasePreprocessed, EpochEnded
from seg.listening import Listening, amended, sections
from seg.plan_diff import compare_plans
from seg.registry import Listener, Plugin, Registry
from seg.stages.plan import make_plan
from seg_nnunet.planner import NnUNetPlanner
from seg_unet.unet import UNet

ONE = Intensities(mean=0, median=0, std=1, min=0, max=1, percentile_00_5=0, percentile_99_5=1)
FINGERPRINT = Fingerprint(cases=("a",), shapes=((64, 80, 96),), spacings=((1.0, 1.0, 1.0),), intensities=(ONE,),
                          relative_size_after_cropping=1.0)
DESCRIPTION = Description(name="d", channel_names=("MR",), labels=Labels(values={"background": 0, "liver": 1}),
                          training_cases=1)
EVENT = CasePreprocessed(folder=Path("cases"), configuration="2d", case="c")
FAILURES = [ValueError("away"), SystemExit(3), BaseException("x"), SegError([])]


class Heard(Silent):
    """A progress that keeps what was said and told."""

    def __init__(self):
        self.said, self.told = [], []

    def say(self, text):
        self.said.append(text)

    def tell(self, event):
        self.told.append(event)


def registry(hook, **calls):
    """A plugin for each of `calls`, of the version 1.2."""
    plugins = {name: Plugin(name=name, distribution=f"dist-{name}", version="1.2", status="ok") for name in calls}
    listeners = tuple(Listener(hook=hook, call=call, plugin=plugins[name]) for name, call in calls.items())
    return Registry(components=(), plugins=tuple(plugins.values()), listeners=listeners)


def failing(error):
    def call(**_):
        raise error

    return call


@pytest.fixture(scope="module")
def plan():
    return make_plan(FINGERPRINT, DESCRIPTION, NnUNetPlanner(), "nnunet", UNet(), "unet", "digest")


def test_everything_is_passed_on():
    heard, calls = Heard(), []
    listening = Listening(heard, registry("seg_case_preprocessed", a=lambda **facts: calls.append(facts)))
    listening.say("text")
    listening.start("bar", 2)
    listening.advance()
    listening.tell(EVENT)
    assert (heard.said, heard.told) == (["text"], [EVENT])
    assert calls == [{"folder": Path("cases"), "configuration": "2d", "case": "c"}]


def test_only_those_that_listen_to_the_hook_are_called():
    listening = Listening(Silent(), registry("seg_epoch_ended", a=failing(AssertionError("called"))))
    listening.tell(EVENT)


@pytest.mark.parametrize("error", FAILURES, ids=repr)
def test_one_that_fails_is_said_once_and_stops_nobody(error):
    heard, calls, tries = Heard(), [], []

    def bad(**_):
        tries.append(1)
        raise error

    listening = Listening(heard, registry("seg_case_preprocessed", bad=bad, good=lambda **_: calls.append(1)))
    for _ in range(3):
        listening.tell(EVENT)
    assert (len(calls), len(tries)) == (3, 3)
    (said,) = heard.said
    assert said.startswith("SEG-P06 warning: plugin bad (dist-bad 1.2) failed in seg_case_preprocessed: ")
    assert type(error).__name__ in said


@pytest.mark.parametrize("ask", [
    lambda plugins, plan: Listening(Silent(), plugins).tell(EVENT),
    lambda plugins, plan: amended(plan, None, plugins),
    lambda plugins, plan: sections(Path(), plugins),
], ids=["tell", "amended", "sections"])  # fmt: skip
def test_the_user_can_stop_it(ask, plan):
    call = failing(KeyboardInterrupt())
    plugins = [registry(hook, a=call) for hook in ("seg_case_preprocessed", "seg_plan_made", "seg_report_sections")]
    with pytest.raises(KeyboardInterrupt):
        ask(evolve(plugins[0], listeners=tuple(each.listeners[0] for each in plugins)), plan)


def test_no_plugin_changes_what_the_next_one_hears():
    row, heard = {"epoch": 1}, []
    plugins = registry("seg_epoch_ended", a=lambda row, **_: row.clear(), b=lambda row, **_: heard.append(row))
    Listening(Silent(), plugins).tell(EpochEnded(folder=Path(), configuration="2d", fold="0", row=row))
    assert (heard, row) == ([{"epoch": 1}], {"epoch": 1})


def test_plugins_are_called_one_at_a_time():
    busy, calls = Lock(), []

    def call(**_):
        assert busy.acquire(blocking=False)
        calls.append(1)
        busy.release()

    heard = Heard()
    listening = Listening(heard, registry("seg_case_preprocessed", a=call, bad=failing(ValueError())))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(listening.tell, [EVENT] * 200))
    assert len(calls) == 200
    assert len(heard.said) == 1


def test_what_they_print_is_no_output(capsys, plan):
    plugins = registry("seg_plan_made", a=lambda **_: print("words"))  # noqa: T201
    amended(plan, None, plugins)
    assert capsys.readouterr() == ("", "words\n")
    assert sys.stdout is not sys.stderr


def changed(plan, **changes):
    """`plan` with other values in its first configuration."""
    name, first = next(iter(plan.configurations.items()))
    return evolve(plan, configurations={**plan.configurations, name: evolve(first, **changes)})


def test_a_plan_is_amended_by_each_plugin_in_order(plan):
    folders = []

    def twice(plan, folder):
        folders.append(folder)
        return changed(plan, batch=2 * next(iter(plan.configurations.values())).batch)

    found = amended(plan, Path("run"), registry("seg_plan_made", a=twice, none=lambda **_: None, b=twice))
    name, before = next(iter(plan.configurations.items()))
    assert found == changed(plan, batch=4 * before.batch, reasons=found.configurations[name].reasons)
    assert folders == [Path("run")] * 2
    assert found.configurations[name].reasons["batch"].startswith(
        f"Amended by plugin b (dist-b 1.2), instead of {2 * before.batch}.")
    others = {key: text for key, text in found.configurations[name].reasons.items() if key != "batch"}
    assert others == {key: text for key, text in before.reasons.items() if key != "batch"}


def test_the_reason_that_a_plugin_gives_is_kept(plan):
    reasons = {"spacing": "The scanner's."}
    found = amended(plan, None, registry("seg_plan_made", a=lambda plan, **_: changed(
        plan, spacing=(3.0, 2.0, 1.0), reasons=reasons)))
    text = next(iter(found.configurations.values())).reasons["spacing"]
    assert text.startswith("Amended by plugin a (dist-a 1.2), instead of ")
    assert text.endswith(" The scanner's.")


def test_configurations_may_go(plan):
    last = list(plan.configurations)[-1]
    found = amended(plan, None, registry("seg_plan_made", a=lambda plan, **_: evolve(
        plan, configurations={name: each for name, each in plan.configurations.items() if name != last})))
    assert compare_plans(plan, found).only_first == (last,)
    assert f"plugin a (dist-a 1.2) removed {last}." in found.reasons["configurations"]


def test_a_plan_left_as_it_is_has_no_new_reasons(plan):
    assert amended(plan, None, registry("seg_plan_made", a=lambda plan, **_: plan)) == plan


def test_who_made_a_plan_is_not_for_a_plugin_to_say(plan):
    found = amended(plan, None, registry("seg_plan_made", a=lambda plan, **_: evolve(
        plan, planner="mine", architecture="mine", source="mine")))
    assert (found.planner, found.architecture, found.source) == (plan.planner, plan.architecture, plan.source)


@pytest.mark.parametrize(("answer", "code", "words"), [
    (lambda plan: 42, "SEG-P03", "gave builtins.int; expected a seg.Plan or None"),
    (lambda plan: plan.no_such_field, "SEG-P03", "AttributeError"),
    (lambda plan: sys.exit(0), "SEG-P03", "SystemExit"),
    (lambda plan: changed(plan, patch=(7, 7)), "SEG-P05", "of the patch has 7 voxels"),
    (lambda plan: changed(plan, spacing="wide"), "SEG-C02", "spacing"),
    (lambda plan: evolve(plan, configurations={}), "SEG-P05", "no configuration"),
    (lambda plan: evolve(plan, configurations=None), "SEG-P03", "cannot be read"),
    (lambda plan: evolve(plan, description=evolve(plan.description, name="x")), "SEG-P05", "another data set"),
], ids=lambda item: item if isinstance(item, str) else "answer")  # fmt: skip
def test_a_plan_that_is_none_stops_the_run(plan, answer, code, words):
    with pytest.raises(SegError) as caught:
        amended(plan, None, registry("seg_plan_made", bad=lambda plan, **_: answer(plan)))
    assert caught.value.exit_code == Exit.PLUGIN
    text = str(caught.value)
    assert all(part in text for part in (code, words, "plugin bad (dist-bad 1.2)", "seg_plan_made")), text


def test_sections_are_in_order_and_name_their_plugin():
    plugins = registry("seg_report_sections", a=lambda **_: iter([Section("A", "<b>1</b>"), Section("B", "2")]),
                       none=lambda **_: (), b=lambda **_: [Section("C", "3")])
    assert [(item.title, item.html, item.origin) for item in sections(Path(), plugins)] == [
        ("A", "<b>1</b>", "plugin a (dist-a 1.2)"), ("B", "2", "plugin a (dist-a 1.2)"),
        ("C", "3", "plugin b (dist-b 1.2)")]


def half_way(**_):
    yield Section("A", "1")
    raise ValueError("<half way>")


@pytest.mark.parametrize(("call", "words"), [
    (half_way, "ValueError: &lt;half way&gt;"),
    (lambda **_: None, "gave builtins.NoneType, expected an iterable of seg.Section"),
    (lambda **_: ["text"], "gave builtins.str, expected a seg.Section"),
    (lambda **_: [Section("A", 1)], "expected texts"),
    (failing(SystemExit(1)), "SystemExit: 1"),
], ids=lambda item: item if isinstance(item, str) else "call")  # fmt: skip
def test_a_section_that_fails_is_a_note_in_its_place(call, words):
    plugins = registry("seg_report_sections", bad=call, good=lambda **_: [Section("C", "3")])
    bad, good = sections(Path(), plugins)
    assert (bad.title, good.title) == ("bad", "C")
    assert words in bad.html
