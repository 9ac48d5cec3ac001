import pytest
from attrs import frozen

from seg import SegError, option
from seg.options import describe, fill, parse_value


@frozen(kw_only=True)
class Some:
    features: int = option(32, "features of the finest stage", ge=1, le=64)
    rate: float = option(0.01, "learning rate", ge=0)
    norm: str = option("instance", "which norm", choices=("instance", "batch"))
    sizes: tuple[int, ...] = option((1, 2), "sizes")
    flag: bool = option(default=True, help="a switch")
    spacing: tuple[float, ...] = option((), "three, or none")
    axes: tuple[int, int] = option((0, 1), "always two")


@frozen(kw_only=True)
class Nothing:
    pass


def test_options_fill_the_fields():
    assert fill(Some, {}, "architecture") == Some()
    assert fill(Some, {"features": 8, "rate": 1, "norm": "batch", "sizes": [3], "flag": False}, "architecture") == Some(
        features=8, rate=1.0, norm="batch", sizes=(3,), flag=False)


@pytest.mark.parametrize(("values", "told"), [
    ({"featurs": 8}, "'features'"), ({"features": 0}, "features"), ({"features": 65}, "features"),
    ({"features": 1.5}, "expected int"), ({"features": "8"}, "expected int"), ({"features": True}, "expected int"),
    ({"norm": "layer"}, "norm"), ({"sizes": 3}, "expected a list"), ({"flag": 1}, "expected bool"),
    ({"rate": float("nan")}, "finite"), ({"rate": -1.0}, "rate"),
])  # fmt: skip
def test_a_wrong_option_is_exit_2_and_named(values, told):
    with pytest.raises(SegError, match=told) as caught:
        fill(Some, values, "architecture")
    assert caught.value.exit_code == 2
    assert "architecture" in str(caught.value)


@pytest.mark.parametrize(("values", "form"), [
    ({"sizes": 3}, "sizes=3,3, one of a single value network.sizes=3,"), ({"axes": 2}, "axes=2,2"),
    ({"spacing": 1}, "spacing=1,1,1, one of a single value network.spacing=1,"),
])  # fmt: skip
def test_a_single_number_for_a_list_is_told_how_a_list_is_written(values, form):
    with pytest.raises(SegError, match="expected a list") as caught:
        fill(Some, {**values, "rate": "a"}, "network")
    advice = {record.found.rpartition("$.")[2]: record.advice for record in caught.value.records}
    assert advice == {"rate": "", next(iter(values)): f"A list is written network.{form}"}
    for written in form.split(", one of a single value network."):  # what is told is taken
        name, _, text = written.partition("=")
        assert set(getattr(fill(Some, {name: parse_value(text)}, "network"), name)) == set(values.values())


def test_every_unknown_option_has_its_record():
    with pytest.raises(SegError) as caught:
        fill(Some, {"a": 1, "b": 2}, "architecture")
    assert len(caught.value.records) == 2


def test_a_component_without_options_says_so():
    with pytest.raises(SegError, match="no options of sampler"):
        fill(Nothing, {"a": 1}, "sampler")


@pytest.mark.parametrize(("text", "value"), [
    ("8", 8), ("0.5", 0.5), ("1e-3", 1e-3), ("true", True), ("[1, 2]", [1, 2]), ("[[3, 3], [1, 3]]", [[3, 3], [1, 3]]),
    ("batch", "batch"), ('"8"', "8"), ("", ""), ("True", "True"), ("a b", "a b"), ("a/b.json", "a/b.json"),
    ("1\nother = 2", "1\nother = 2"),
])  # fmt: skip
def test_values_are_toml_where_they_are_toml(text, value):
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


def test_what_show_prints():
    features, rate, norm, sizes, flag, *_ = describe(Some)
    assert (features.name, features.type, features.default) == ("features", "int", 32)
    assert features.help == "features of the finest stage"
    assert [info.bounds for info in (features, rate, norm, sizes)] == ["1 ≤ x ≤ 64", "0 ≤ x", "instance | batch", ""]
    assert sizes.type == "tuple[int, ...]"
    assert flag.default is True
    assert describe(Nothing) == []
