"""Data goes to JSON and back unchanged, and nothing is bent to fit on the way."""

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen
from attrs.validators import ge
from hypothesis import given, settings
from hypothesis import strategies as st

from seg import Configuration, Description, Labels, Plan, SegError, Topology
from seg.convert import dump_json, from_data, load_json, load_toml, read_json, to_data, write_json


@frozen(kw_only=True)
class Inner:
    number: int = field(default=1, validator=ge(1))
    share: float = 0.5


@frozen(kw_only=True)
class Outer:
    name: str
    flag: bool = False
    size: tuple[int, int, int] = (1, 1, 1)
    many: tuple[str, ...] = ()
    parts: tuple[Inner, ...] = ()
    by_name: dict[str, Inner] = field(factory=dict)
    by_id: dict[int, int] = field(factory=dict)
    maybe: str | None = None
    values: dict[str, int | tuple[int, ...]] = field(factory=dict)
    folder: Path = Path()
    open: dict[str, Any] = field(factory=dict)


whole = st.integers(-(2**40), 2**40)
finite = st.floats(allow_nan=False, allow_infinity=False)
inners = st.builds(Inner, number=st.integers(1, 9), share=finite)
outers = st.builds(
    Outer, name=st.text(), flag=st.booleans(), size=st.tuples(whole, whole, whole), many=st.lists(st.text()).map(tuple),
    parts=st.lists(inners, max_size=3).map(tuple), by_name=st.dictionaries(st.text(), inners, max_size=3),
    by_id=st.dictionaries(whole, whole, max_size=3), maybe=st.none() | st.text(),
    values=st.dictionaries(st.text(), whole | st.lists(whole, max_size=3).map(tuple), max_size=3),
    folder=st.sampled_from([Path(), Path("a/b"), Path("/c")]),
    open=st.dictionaries(st.text(), whole | st.booleans() | st.text() | finite, max_size=3),
)  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["name", "size", "parts", "by_id", "by_name", "number", "values", "open", "1"]), inner, max_size=4),
    max_leaves=12,
)
TOPOLOGY = Topology(in_channels=1, outputs=2, features=(4, 8), kernels=((3, 3), (3, 3)), strides=((1, 1), (2, 2)),
                    blocks=(2, 2), decoder_blocks=(2,))
CONFIGURATION = Configuration(name="2d", spacing=(999.0, 1.0, 1.0), median_shape=(20.0, 24.0), patch=(16, 24), batch=2,
                              topology=TOPOLOGY, normalization=("zscore",), use_mask_for_norm=(False,),
                              mirror_axes=(0, 1), reasons={"patch": "σ of 3 × 3"})
PLAN = Plan(description=Description(name="d", channel_names=("MR",), training_cases=3,
                                    labels=Labels(values={"background": 0, "a": 1, "b": (1, 2)}, file_values={1: 255})),
            planner="p", architecture="unet", transpose_forward=(2, 0, 1), original_median_spacing=(1.0, 1.0, 1.0),
            original_median_shape=(1.0, 20.0, 24.0), intensities=(), configurations={"2d": CONFIGURATION})


def told(data, kind=Outer):
    with pytest.raises(SegError) as caught:
        from_data(data, kind, file="some.json")
    assert all(record.file == "some.json" for record in caught.value.records)
    return [record.found for record in caught.value.records]


@settings(max_examples=50, deadline=None)
@given(outers)
def test_there_and_back_is_the_same(value):
    assert from_data(json.loads(dump_json(value)), Outer) == value


def test_a_plan_goes_there_and_back(tmp_path):
    write_json(tmp_path / "plan.json", PLAN)
    assert read_json(tmp_path / "plan.json", Plan) == PLAN
    assert "σ of 3 × 3" in (tmp_path / "plan.json").read_text(encoding="utf-8")


@settings(max_examples=150, deadline=None)
@given(anything)
def test_whatever_the_data_the_answer_is_an_instance_or_a_refusal(data):
    for kind in (Outer, Plan):
        try:
            found = from_data(data, kind)
        except SegError:
            continue
        assert type(found) is kind


@pytest.mark.parametrize(("key", "value"), [
    ("name", 3), ("name", None), ("flag", 1), ("flag", "false"), ("size", [1, 2]), ("size", [1, 2, 3.0]),
    ("size", [1, 2, True]), ("size", 3), ("many", "abc"), ("many", {"a": 1}), ("parts", [1]), ("by_name", [1]),
    ("by_id", {"1.5": 1}), ("by_id", {"1_0": 1}), ("by_id", {"x": 1}), ("by_id", {"1": "1"}), ("by_id", 5),
    ("values", {"a": 1.5}), ("values", {"a": [1, "2"]}), ("values", {"a": True}), ("folder", 1), ("maybe", 1),
])  # fmt: skip
def test_nothing_is_bent_into_another_type(key, value):
    (found,) = told({"name": "n"} | {key: value})
    assert key in found


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), True, "0.5", None])
def test_a_float_is_a_finite_number(value):
    assert told({"share": value}, Inner)


@pytest.mark.parametrize("value", [[], "text", 3, None])
def test_a_class_is_made_of_a_table_alone(value):
    assert told(value) == [f"expected a table, got {value!r}"]
    assert told({"name": "n", "parts": [value]}) == [f"expected a table, got {value!r} @ $.parts[0]"]


def test_a_whole_number_is_a_float_too():
    assert type(from_data({"share": 1}, Inner).share) is float


def test_all_mistakes_come_at_once_each_with_its_place():
    found = told({"flag": 1, "size": [1, "2", None], "parts": [{}, {"number": 0}, {"shore": 1}],
                  "by_name": {"a": {"share": "x"}}, "by_id": {"1": "x", "y": 2}})
    text = "\n".join(found)
    assert "'name' is missing" in text
    for place in ("flag", "size[1]", "size[2]", "parts[1]", "parts[2]", "by_name['a'].share", "by_id"):
        assert place in text
    assert "Did you mean 'share'?" in text
    assert len(found) >= 8


def test_a_misspelt_key_names_the_nearest():
    (found,) = told({"name": "n", "flagg": True})
    assert "'flagg'" in found
    assert "'flag'" in found


def test_integer_keys_and_tuples_are_what_json_has():
    assert to_data(PLAN)["configurations"]["2d"]["patch"] in ([16, 24], (16, 24))
    assert json.loads(dump_json(PLAN))["description"]["labels"]["file_values"] == {"1": 255}


def test_short_lists_stay_on_one_line():
    assert '"patch": [16, 24]' in dump_json(PLAN)
    assert max(map(len, dump_json(PLAN).splitlines())) < 125


@pytest.mark.parametrize(("load", "content"), [
    (load_json, b"{"), (load_json, b"\xff\xfe"), (load_json, b""), (load_toml, b"a = "), (load_toml, b"\xff"),
])  # fmt: skip
def test_what_cannot_be_read_names_the_file(tmp_path, load, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(SegError) as caught:
        load(path)
    assert caught.value.records[0].file == str(path)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("load", [load_json, load_toml])
def test_a_missing_file_is_no_traceback(tmp_path, load):
    with pytest.raises(SegError, match="No such file"):
        load(tmp_path / "absent")


@pytest.mark.parametrize(("load", "content"), [(load_json, '{"a": 1}'), (load_toml, "a = 1")])
def test_a_byte_order_mark_is_no_content(tmp_path, load, content):
    path = tmp_path / "file"
    path.write_text(content, encoding="utf-8-sig")
    assert load(path) == {"a": 1}


def test_the_place_of_a_json_mistake_is_told(tmp_path):
    path = tmp_path / "file.json"
    path.write_text('{\n "a": 1,\n "b" 2}')
    with pytest.raises(SegError, match="line 3 column 6"):
        load_json(path)
