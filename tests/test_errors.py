import re
from pathlib import Path

import pytest

from seg import Exit, Record, SegError, usage_error
from seg.errors import nearest

ROOT = Path(__file__).parents[1]


def test_a_record_tells_place_finding_expectation_and_advice():
    record = Record(code="SEG-D05", found="3 NaN", expected="numbers", advice="Look.", case="c", file="f.nii")
    assert str(record) == "SEG-D05 error [case c f.nii]: 3 NaN; expected numbers. Look."
    assert str(Record(code="SEG-D05", found="3 NaN", severity="note")) == "SEG-D05 note: 3 NaN"


def test_an_error_tells_all_its_records():
    records = [Record(code="SEG-D01", found="a"), Record(code="SEG-D02", found="b")]
    error = SegError(records)
    assert error.records == records
    assert error.exit_code is Exit.DATA
    assert str(error).splitlines() == [str(record) for record in records]
    assert SegError(records[0]).records == records[:1]


def test_wrong_usage_is_exit_2():
    error = usage_error("x", expected="y", advice="z", file="f")
    assert error.exit_code == 2
    assert error.records == [Record(code="SEG-C01", found="x", expected="y", advice="z", file="f")]


@pytest.mark.parametrize(("word", "hint"), [("learning_rte", "Did you mean 'learning_rate'?"), ("zzz", "")])
def test_the_nearest_word(word, hint):
    assert nearest(word, ["learning_rate", "clip_norm"]) == hint
    assert nearest(word, []) == ""


def test_exit_codes_are_those_that_are_promised():
    assert [(code.name, int(code)) for code in Exit] == [
        ("DONE", 0), ("BUG", 1), ("USAGE", 2), ("DATA", 3), ("PARTLY", 4), ("RESOURCES", 5), ("PLUGIN", 6),
        ("UNSAFE", 7),
    ]  # fmt: skip


def test_every_code_in_the_source_has_its_form():
    for file in [*ROOT.glob("core/**/*.py"), *ROOT.glob("plugins/**/*.py"), *ROOT.glob("cli/**/*.py")]:
        for code in re.findall(r'code="([^"]*)"', file.read_text(encoding="utf-8")):
            assert re.fullmatch(r"SEG-[CDMPRST]\d\d", code), f"{file}: {code}"
