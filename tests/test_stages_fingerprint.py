"""The stage checks what a fingerprinter gives."""

from pathlib import Path

import pytest
from attrs import evolve, frozen

from seg import Case, Dataset, Description, Fingerprint, Intensities, Labels, SegError
from seg.stages.fingerprint import make_fingerprint

ONE = Intensities(mean=0, median=0, std=1, min=0, max=1, percentile_00_5=0, percentile_99_5=1)
DATASET = Dataset(root=Path("data"), layout="test", cases=(Case(id="a", images=()), Case(id="b", images=())),
                  description=Description(name="d", channel_names=("MR",), training_cases=2,
                                          labels=Labels(values={"background": 0, "a": 1})))


@frozen
class Fixed:
    """A fingerprinter that knows its answer."""

    shapes: int = 2
    orientations: tuple = ()

    def fingerprint(self, dataset, progress):
        for _ in dataset.cases:
            progress.advance()
        return Fingerprint(cases=("a", "b"), shapes=((1, 2, 3),) * self.shapes, spacings=((1.0, 1.0, 1.0),) * 2,
                           relative_size_after_cropping=1.0, intensities=(ONE,), orientations=dict(self.orientations))


def test_the_source_is_kept():
    assert make_fingerprint(DATASET, Fixed(), source="digest").source == "digest"


def test_what_does_not_fit_the_data_set_names_the_fingerprinter():
    with pytest.raises(SegError, match="Fixed gave 3 shapes, expected 2") as caught:
        make_fingerprint(DATASET, Fixed(3))
    assert caught.value.exit_code == 6


def test_a_fingerprinter_that_does_not_turn_the_images_is_named():
    turned = evolve(DATASET, description=evolve(DATASET.description, orientation="RAS"))
    with pytest.raises(SegError, match="Fixed gave images of orientation LPS, expected RAS") as caught:
        make_fingerprint(turned, Fixed(orientations=(("RAS", 1), ("LPS", 1))))
    assert caught.value.exit_code == 6
    make_fingerprint(turned, Fixed(orientations=(("RAS", 2),)))
    make_fingerprint(DATASET, Fixed(orientations=(("RAS", 1), ("LPS", 1))))


def test_no_cases_are_refused():
    with pytest.raises(SegError, match="SEG-D13"):
        make_fingerprint(evolve(DATASET, cases=()), Fixed())
