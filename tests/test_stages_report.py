import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from seg import (
    Case,
    Configuration,
    Dataset,
    Description,
    Fingerprint,
    Intensities,
    Labels,
    Plan,
    Record,
    SegError,
    Topology,
    read_label,
    write_label,
)
from seg.convert import to_data, write_json
from seg.metrics import case_metrics, evaluation
from seg.phantom import write_phantom
from seg.stages.evaluate import write_evaluation
from seg.stages.report import write_report

LABELS = Labels(values={"background": 0, "organ": 1, "tumour": 2})
INTENSITIES = (Intensities(mean=1.0, median=1.0, std=0.5, min=0.0, max=3.0, percentile_00_5=0.1, percentile_99_5=2.9),)


def configuration(name="3d_fullres", features=(8, 16), patch=(16, 16, 16)):
    dims = len(patch)
    topology = Topology(in_channels=1, outputs=3, features=features, kernels=((3,) * dims,) * 2,
                        strides=((1,) * dims, (2,) * dims), blocks=(2, 2), decoder_blocks=(2,))
    median = tuple(map(float, patch))
    return Configuration(name=name, spacing=(1.0, 1.0, 1.0), median_shape=median, patch=patch, batch=2,
                         topology=topology, normalization=("zscore",), use_mask_for_norm=(False,),
                         mirror_axes=tuple(range(dims)), reasons={"patch": "the <median> shape fits"})


def describe(root, dims):
    description = Description(name="Phantom <b>&", channel_names=("MR",), labels=LABELS, training_cases=3,
                              file_ending=".nii.gz" if dims == 3 else ".png")
    ending = description.file_ending
    cases = tuple(Case(id=f"phantom_{n:03d}", images=(root / "imagesTr" / f"phantom_{n:03d}_0000{ending}",),
                       label=root / "labelsTr" / f"phantom_{n:03d}{ending}") for n in range(3))
    return Dataset(description=description, root=root, layout="nnunet", cases=cases)


@pytest.fixture(params=[3, 2])
def finished(request, tmp_path):
    dims, root, run = request.param, tmp_path / "data", tmp_path / "run"
    write_phantom(root, cases=3, dims=dims, shape=(16, 24, 24)[-dims:])
    dataset = describe(root, dims)
    planned = configuration("3d_fullres" if dims == 3 else "2d", patch=(16,) * dims)
    write_json(run / "dataset.json", dataset)
    write_json(run / "check.json", [Record(code="SEG-D19", severity="warning", found="mixed orientations")])
    write_json(run / "fingerprint.json", Fingerprint(
        cases=tuple(case.id for case in dataset.cases), shapes=((16, 24, 24),) * 3, spacings=((1.0, 1.0, 1.0),) * 3,
        relative_size_after_cropping=1.0, intensities=INTENSITIES, class_voxels={"organ": 30, "tumour": 10},
        class_cases={"organ": 3, "tumour": 3}, orientations={"RAS": 3}))
    write_json(run / "plan.json", Plan(
        description=dataset.description, planner="nnunet", architecture="unet", transpose_forward=(0, 1, 2),
        original_median_spacing=(1.0, 1.0, 1.0), original_median_shape=(16.0, 24.0, 24.0), intensities=INTENSITIES,
        configurations={planned.name: planned}))
    for fold in range(2):
        training = run / "training" / planned.name / f"fold_{fold}"
        training.mkdir(parents=True)
        rows = [{"epoch": n, "step": 10 * n, "seconds": 2.0 * n, "loss": 1 / n, "lr": 0.01 / n} for n in range(1, 6)]
        (training / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_json(training / "reduced.json", {"configuration": to_data(configuration(planned.name, (4, 8), planned.patch)),
                                           "reasons": ["too few steps"]})
    validate(dataset, run / "validation" / planned.name / "fold_0")
    write_json(run / "timings.json", {"check": 1.5, "train": 200.0})
    (run / "run.toml").write_text('[run]\nplanner = "nnunet"\n')
    return run


def validate(dataset, folder):
    found = []
    for shift, case in enumerate(dataset.cases):
        truth, geometry = read_label(case.label, LABELS)
        prediction = np.roll(truth, shift, axis=-1)
        write_label(folder / case.label.name, prediction, geometry, LABELS)
        found.append(case_metrics(truth, prediction, LABELS, geometry.spacing_zyx, case=case.id))
    write_evaluation(evaluation(found, ["organ", "tumour"]), folder)


class Page(HTMLParser):
    """The text of a page, and every address it names."""

    def __init__(self, text):
        super().__init__()
        self.words, self.addresses = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href", "data", "action", "srcset")]

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_tells_all_and_needs_no_network(finished):
    path = write_report(finished)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    words = " ".join(page.words)
    assert path == finished / "report.html"
    for part in ("Phantom <b>&", "the <median> shape fits", "too few steps", "8, 16 → 4, 8", "mixed orientations",
                 "tumour", "RAS: 3", "best: phantom_000, Dice 1.000", "worst: phantom_002", "3.3 min",
                 'planner = "nnunet"', "5"):
        assert part in words
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert sum(address.startswith("data:image/png") for address in page.addresses) == 3
    assert not re.search(r"<script|@import|url\(", text)
    assert "<b>&" not in text


def test_every_part_may_be_absent(finished):
    for names in (("plan.json", "dataset.json"), ("run.toml", "timings.json", "check.json", "fingerprint.json")):
        for name in names:
            (finished / name).unlink()
        assert "No pictures" in write_report(finished).read_text(encoding="utf-8")


def test_an_empty_folder_has_a_page_and_no_folder_has_none(tmp_path):
    assert "Nothing has been trained yet" in write_report(tmp_path).read_text(encoding="utf-8")
    with pytest.raises(SegError):
        write_report(tmp_path / "absent")


def test_a_lost_prediction_costs_its_picture_alone(finished):
    lost = next(path for path in (finished / "validation").rglob("phantom_001*"))
    lost.unlink()
    text = write_report(finished).read_text(encoding="utf-8")
    assert text.count("data:image/png") == 2


def test_a_damaged_file_is_named(finished):
    (finished / "plan.json").write_text("{")
    with pytest.raises(SegError, match=r"plan\.json"):
        write_report(finished)
