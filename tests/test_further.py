"""Further metrics: which are made, what becomes of one that fails, and what may be chosen by."""

from typing import ClassVar

import numpy as np
import pytest
from attrs import frozen

from seg import Labels, SegError
from seg.discovery import discover
from seg.further import directions, refuse_unknown_metric, resolve_metrics, with_further
from seg.metrics import case_metrics, evaluation
from seg_nnunet.ensembler import NnUNetEnsembler

LABELS = Labels(values={"background": 0, "cell": 1, "core": 2, "ignore": 3})
MM = (3.0, 2.0, 1.0)


@frozen(kw_only=True)
class Some:
    larger_is_better: ClassVar[bool] = False
    answer: object

    def measure(self, truth, predicted, spacing):
        return self.answer(truth, predicted, spacing)


def maps():
    truth = np.zeros((4, 5, 6), np.int16)
    truth[:2] = 1
    predicted = truth.copy()
    predicted[1] = 0
    predicted[3] = 1
    truth[3, 0] = 3
    return truth, predicted


def measured(**answers):
    truth, predicted = maps()
    metrics = {name: Some(answer=answer) for name, answer in answers.items()}
    return with_further(case_metrics(truth, predicted, LABELS, MM, case="c"), truth, predicted, LABELS, MM, metrics)


def test_each_sees_the_masks_without_what_is_ignored():
    seen = []
    measured(count=lambda *given: seen.append(given) or 1.0)
    ((truth, predicted, spacing),) = seen  # core is nowhere, and not asked for
    assert (truth.dtype, truth.shape, spacing) == (bool, (4, 5, 6), MM)
    assert (truth.sum(), predicted.sum()) == (60, 54)


def test_values_stand_beside_those_that_are_always_made():
    found = measured(count=lambda truth, predicted, _: np.float32(predicted.sum()), none=lambda *_: None)
    assert found.classes["cell"].others == {"count": 54.0, "none": None}
    assert found.classes["cell"].dice == measured().classes["cell"].dice
    assert found.classes["core"].others == {"count": None, "none": None}
    assert found.failed == ()
    assert found.classes["cell"].value("count") == 54
    assert found.classes["cell"].value("dice") == found.classes["cell"].dice
    assert found.classes["cell"].value("never asked for") is None


@pytest.mark.parametrize(("answer", "word"), [
    (lambda *_: 1 / 0, "ZeroDivisionError"), (lambda *_: float("nan"), "nan"), (lambda *_: float("inf"), "inf"),
    (lambda *_: "much", "'much'"), (lambda *_: True, "True"),
])  # fmt: skip
def test_one_that_fails_is_named_and_harms_no_other(answer, word):
    found = measured(bad=answer, good=lambda *_: 2)
    assert found.classes["cell"].others == {"bad": None, "good": 2.0}
    (told,) = found.failed
    assert told.startswith("bad of cell: ")
    assert word in told
    assert evaluation([found], ["cell"], 1.0, {"bad": True, "good": True}).failed == (f"case c: {told}",)


def test_names_are_resolved_once_each():
    metrics, uses = resolve_metrics(("recall", "segplug:recall", "recall", "volume_error"), discover())
    assert list(metrics) == list(uses) == ["recall", "segplug:recall", "volume_error"]
    assert uses["segplug:recall"].name == "recall"
    assert directions(metrics) == {"recall": True, "segplug:recall": True, "volume_error": False}


@pytest.mark.parametrize(("name", "word"), [("recal", "'recall'"), ("dice", "always made"), ("cases", "always made")])
def test_what_cannot_be_asked_for(name, word):
    with pytest.raises(SegError, match=word) as caught:
        resolve_metrics((name,), discover())
    assert caught.value.exit_code == 2


def test_an_ensembler_chooses_by_what_is_made():
    metrics, _ = resolve_metrics(("recall",), discover())
    refuse_unknown_metric(NnUNetEnsembler(metric="recall"), metrics)
    refuse_unknown_metric(NnUNetEnsembler(metric="nsd"), {})
    with pytest.raises(SegError, match=r"metrics\.also=recall") as caught:
        refuse_unknown_metric(NnUNetEnsembler(metric="recall"), {})
    assert caught.value.exit_code == 2
