"""Names of normalisers are resolved once and applied channel by channel; what they give is checked."""

from typing import ClassVar

import numpy as np
import pytest
from attrs import evolve, frozen

from seg import Configuration, Intensities, SegError, Topology
from seg.discovery import discover
from seg.models import ComponentUse
from seg.normalisation import Normalisers, normalise

CT = Intensities(mean=10, median=9, std=4, min=-50, max=90, percentile_00_5=-5, percentile_99_5=30)
TOPOLOGY = Topology(in_channels=1, outputs=2, features=(4,), kernels=((3,) * 3,), strides=((1,) * 3,), blocks=(1,),
                    decoder_blocks=())


def configuration(*names, masks=None):
    return Configuration(name="some", spacing=(1.0, 1.0, 1.0), median_shape=(4.0,) * 3, patch=(4, 4, 4), batch=2,
                         topology=TOPOLOGY, normalization=names, use_mask_for_norm=masks or (False,) * len(names),
                         mirror_axes=())


def image(channels=1):
    return np.random.default_rng(0).uniform(0, 200, (channels, 4, 5, 6)).astype(np.float32)


@frozen(kw_only=True)
class Strange:
    """Gives whatever `answer` makes of the channel, and remembers what it was told."""

    uses_intensities: ClassVar[bool] = False
    answer: object
    heard: list

    def normalise(self, channel, inside, intensities):
        self.heard.append((inside, intensities))
        return self.answer(channel)


def strange(answer):
    use = ComponentUse(kind="normaliser", name="strange", distribution="segplug-strange", version="1.4")
    return Normalisers(built={"strange": Strange(answer=answer, heard=[])}, uses={"strange": use})


def run(array, normalisers, *names, masks=None, intensities=(CT, CT)):
    return normalise(array, configuration(*names, masks=masks), normalisers, intensities,
                     np.ones(array.shape[1:], bool))


def ours(*names):
    return Normalisers.resolve([configuration(*names)], discover())


def test_every_name_is_built_once_and_recorded():
    found = Normalisers.resolve([configuration("ct", "zscore"), configuration("zscore", "segplug:none")], discover())
    assert list(found.built) == ["ct", "zscore", "segplug:none"]
    assert {name: use.name for name, use in found.uses.items()} == {"ct": "ct", "zscore": "zscore",
                                                                     "segplug:none": "none"}
    assert {use.kind for use in found.uses.values()} == {"normaliser"}


def test_an_unknown_name_is_exit_2_with_the_nearest():
    with pytest.raises(SegError, match="'zscore'") as caught:
        ours("z-score")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["ct", "zscore", "none", "rescale_to_0_1", "rgb_to_0_1"])
def test_the_result_is_new_and_the_input_left_alone(name):
    array = image()
    before = array.copy()
    found = run(array, ours(name), name)
    found += 1
    np.testing.assert_array_equal(array, before)


def test_each_channel_has_its_own():
    array = image(2)
    found = run(array, ours("none", "zscore"), "none", "zscore")
    np.testing.assert_array_equal(found[0], array[0])
    assert abs(found[1].mean()) < 1e-5


def test_another_number_of_channels_is_refused():
    with pytest.raises(SegError, match="2 channels"):
        run(image(2), ours("zscore"), "zscore")


def test_what_a_normaliser_is_told():
    normalisers = strange(lambda channel: channel * 2)
    np.testing.assert_array_equal(run(image(2), normalisers, "strange", "strange", masks=(False, True)), image(2) * 2)
    (first, told), (second, _) = normalisers.built["strange"].heard
    assert (first, told) == (None, None)  # it does not use intensities
    assert second.all()


@pytest.mark.parametrize(("answer", "word"), [
    (lambda channel: channel[1:], "gave .* float32; expected .* float32"),
    (lambda channel: channel.astype(np.float64), "gave .* float64"),
    (lambda channel: None, "gave NoneType; expected numpy.ndarray"),
    (lambda channel: np.full_like(channel, np.nan), "no numbers"),
    (lambda channel: 1 / 0, "ZeroDivisionError"),
    (lambda channel: channel.__imul__(2), "read-only"),
])  # fmt: skip
def test_what_is_no_channel_is_exit_6_and_names_the_component(answer, word):
    array = image()
    with pytest.raises(SegError, match=word) as caught:
        run(array, strange(answer), "strange")
    assert caught.value.exit_code == 6
    assert "'strange' of segplug-strange 1.4" in str(caught.value)
    np.testing.assert_array_equal(array, image())


def test_a_channel_that_has_no_numbers_is_not_the_normalisers_fault():
    array = image()
    array[0, 0, 0, 0] = np.nan
    assert np.isnan(run(array, strange(lambda channel: channel), "strange")).sum() == 1


def test_a_refusal_stays_what_it_is():
    with pytest.raises(SegError, match="0 to 255") as caught:
        run(image() - 1, ours("rgb_to_0_1"), "rgb_to_0_1")
    assert caught.value.exit_code == 3


def test_whose_version_and_whose_intensities_count():
    found = ours("ct", "zscore")
    assert found.use_intensities(configuration("zscore", "ct"))
    assert not found.use_intensities(configuration("zscore"))
    assert found.of_others(configuration("ct", "zscore")) == []
    both = evolve(found, built={**found.built, **strange(abs).built}, uses={**found.uses, **strange(abs).uses})
    assert [use.version for use in both.of_others(configuration("ct", "strange"))] == ["1.4"]
    assert both.of_others(configuration("ct")) == []


@pytest.mark.parametrize("names", [("zscore",), ("ct", "none"), ("none",)])
def test_an_image_that_may_be_overwritten_is(names):
    expected = run(image(len(names)), ours(*names), *names)
    given = image(len(names))
    found = normalise(given, configuration(*names), ours(*names), (CT, CT), np.ones(given.shape[1:], bool),
                      overwrite=True)
    assert found is given
    np.testing.assert_array_equal(found, expected)
