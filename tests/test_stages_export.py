"""An exporter's files are all there or not at all; one that fails is named."""

import pytest
from attrs import frozen

import seg
from seg import Configuration, Description, Exporter, Intensities, Labels, Plan, SegError
from seg.model_files import Member, ModelDescription, write_model
from seg.models import ComponentUse
from seg.stages.export import export
from seg_unet.unet import UNet

LABELS = Labels(values={"background": 0, "cell": 1, "core": 2}, file_values={0: 0, 1: 255, 2: 7})
CT = Intensities(mean=10, median=9, std=4, min=-50, max=90, percentile_00_5=-5, percentile_99_5=30)
USE = ComponentUse(kind="exporter", name="text", distribution="segplug-text", version="2")


def make_model(folder, *, names=("3d",), labels=LABELS, patch=(10, 16, 16)):
    """A model of random networks, two folds each."""
    dims, unet = len(patch), UNet(features=4)
    topology = unet.topology([(3,) * dims] * 2, [(1,) * dims, (2,) * dims], 1, labels.outputs)
    configurations = {name: Configuration(
        name=name, spacing=(1.0, 1.0, 1.0), median_shape=patch, patch=patch, batch=2, topology=topology,
        normalization=("ct",), use_mask_for_norm=(False,), mirror_axes=(0, 1)) for name in names}
    plan = Plan(description=Description(name="d", channel_names=("CT",), labels=labels, training_cases=4), planner="p",
                architecture="unet", transpose_forward=(0, 1, 2), original_median_spacing=(1.0, 1.0, 1.0),
                original_median_shape=(9.0, 15.0, 14.0), intensities=(CT,), configurations=configurations)
    members = tuple(Member(configuration=name, fold=fold, weights=f"weights/{name}_fold_{fold}.safetensors")
                    for name in names for fold in ("0", "1"))
    write_model(folder, ModelDescription(plan=plan, configurations=configurations, members=members, chosen=names,
                                         architecture=use("architecture", "unet", {"features": 4}),
                                         ensembler=use("ensembler", "mean", {})),
                {member.weights: unet.build(topology).state_dict() for member in members})


def use(kind, name, options):
    return ComponentUse(kind=kind, name=name, distribution="segplug", version="0.1.0", options=options)


@frozen(kw_only=True)
class Text:
    """A file for each configuration; `fails` is done after the first."""

    fails: object = None
    says: tuple = ()

    def export(self, model, folder):
        (folder / "inner").mkdir()
        files = []
        for name, networks in model.networks.items():
            files.append(folder / "inner" / f"{name}.txt")
            files[-1].write_text(str(len(networks)))
            if self.fails:
                self.fails()
        return *files, *(folder / name for name in self.says)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    make_model(folder, names=("2d", "3d"))
    return seg.load(folder, device="cpu")


def test_files_are_written(model, tmp_path):
    assert isinstance(Text(), Exporter)
    files = export(model, Text(), USE, tmp_path / "out")
    assert [file.relative_to(tmp_path).as_posix() for file in files] == ["out/inner/2d.txt", "out/inner/3d.txt"]
    assert [file.read_text() for file in files] == ["2", "2"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def refused(model, exporter, folder):
    with pytest.raises(SegError) as caught:
        export(model, exporter, USE, folder)
    return caught.value.exit_code, str(caught.value)


@pytest.mark.parametrize(("exporter", "word"), [
    (Text(fails=lambda: 1 / 0), "ZeroDivisionError"), (Text(says=("forgotten.txt",)), "forgotten.txt"),
    (Text(says=("../outside.txt",)), "outside.txt"),
])  # fmt: skip
def test_one_that_fails_leaves_nothing(model, tmp_path, exporter, word):
    code, told = refused(model, exporter, tmp_path / "out")
    assert code == 6
    assert "'text' of segplug-text 2" in told
    assert word in told
    assert list(tmp_path.iterdir()) == []


def test_its_own_refusal_and_a_full_disk_stay_what_they_are(model, tmp_path):
    def refuse():
        raise SegError(seg.Record(code="SEG-P04", found="a package is missing"), seg.Exit.PLUGIN)

    def full():
        raise OSError(28, "No space left on device")

    assert "a package is missing" in refused(model, Text(fails=refuse), tmp_path / "out")[1]
    assert refused(model, Text(fails=full), tmp_path / "out")[0] == 5
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_replaced(model, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    code, told = refused(model, Text(), tmp_path)
    assert code == 2
    assert "empty" in told
    assert refused(model, Text(), tmp_path / "mine.txt")[0] == 2
    assert (tmp_path / "mine.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert len(export(model, Text(), USE, tmp_path / "empty")) == 2
