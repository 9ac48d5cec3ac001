"""A model of nnU-Net becomes one of ours: same weights, same predictions; what cannot be taken is told."""

import json
import re
import shutil
from collections import OrderedDict

import numpy as np
import pytest
import torch
from attrs import evolve

import seg
from seg import Configuration, Description, Intensities, Labels, Plan, SegError
from seg.convert import write_json
from seg.discovery import discover
from seg.model_files import Member, ModelDescription, write_model
from seg.models import ComponentUse
from seg.nnunet_models import import_nnunet
from seg.nnunet_plans import plan_to_nnunet
from seg_cli.main import execute
from seg_resenc.resenc import ResEncUNet
from seg_unet.unet import UNet
from seg_unetpp.unetpp import UNetPlusPlus

ONE = Intensities(mean=1, median=2, std=3, min=4, max=5, percentile_00_5=6, percentile_99_5=7)
PLAIN = Labels(values={"background": 0, "liver": 1, "tumour": 2})
REGIONS = Labels(values={"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2))
IGNORE = Labels(values={"background": 0, "liver": 1, "ignore": 2})
NETWORKS = {"unet": UNet(features=4), "resenc": ResEncUNet(features=4, blocks=(1, 2))}
OURS = [  # our names → nnU-Net's
    (r"^stem\.", "encoder.stem.convs.0."),
    (r"^encoder\.(\d+)\.(\d+)\.(conv|norm)\.", r"encoder.stages.\1.0.convs.\2.\3."),
    (r"^encoder\.(\d+)\.(\d+)\.first\.", r"encoder.stages.\1.blocks.\2.conv1."),
    (r"^encoder\.(\d+)\.(\d+)\.second\.", r"encoder.stages.\1.blocks.\2.conv2."),
    (r"^encoder\.(\d+)\.(\d+)\.skip\.", r"encoder.stages.\1.blocks.\2.skip."),
]


def nnunet_name(name, coarsest):
    """nnU-Net's own name of a tensor."""
    for ours, theirs in OURS:
        if re.match(ours, name):
            return re.sub(ours, theirs, name)
    part, level, rest = re.fullmatch(r"(heads|decoder)\.(\d+)\.(.+)", name).groups()
    level = coarsest - int(level)
    if part == "heads":
        return f"decoder.seg_layers.{level}.{rest}"
    return re.sub(r"^convolutions\.", f"decoder.stages.{level}.convs.",
                  re.sub(r"^up\.", f"decoder.transpconvs.{level}.", rest))


def nnunet_names(state, prefix=""):
    """A state of ours as nnU-Net names it, aliases included."""
    coarsest = max(int(name.split(".")[1]) for name in state if name.startswith("heads."))
    found = OrderedDict()
    for ours, value in state.items():
        name = nnunet_name(ours, coarsest)
        names = [name, name.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1.")]
        names += [f"decoder.{one}" for one in names if name.startswith("encoder.")]
        found.update({prefix + one: value for one in names})
    return found


def make_plan(architecture="unet", patch=(8, 16, 16), labels=PLAIN, transpose=(0, 1, 2)):
    dims, name = len(patch), "2d" if len(patch) == 2 else "3d_fullres"
    topology = NETWORKS[architecture].topology([(3,) * dims] * 3, [(1,) * dims, (2,) * dims, (2,) * dims], 1,
                                               labels.outputs)
    configuration = Configuration(name=name, spacing=(1.5, 1.0, 1.0), median_shape=patch, patch=patch, batch=2,
                                  topology=topology, normalization=("zscore",), use_mask_for_norm=(False,),
                                  mirror_axes=(1,))
    description = Description(name="Dataset001_D", channel_names=("MR",), labels=labels, training_cases=4)
    return Plan(description=description, planner="nnunet", architecture=architecture, transpose_forward=transpose,
                original_median_spacing=(1.5, 1.0, 1.0), original_median_shape=(9.0, 15.0, 14.0), intensities=(ONE,),
                configurations={name: configuration})


def make_folder(folder, plan, folds=("0",), checkpoint="checkpoint_final.pth", prefix="", **changes):
    """What nnU-Net leaves behind after training; returns our weights of each fold."""
    (configuration,) = plan.configurations.values()
    labels = plan.description.labels
    dataset = {"channel_names": {"0": "MR"}, "labels": labels.values, "numTraining": 4, "file_ending": ".nii.gz"}
    if labels.regions_class_order:
        dataset["regions_class_order"] = labels.regions_class_order
    write_json(folder / "dataset.json", dataset)
    write_json(folder / "plans.json", plan_to_nnunet(plan))
    states = {}
    for fold in folds:
        torch.manual_seed(sum(fold.encode()))
        states[fold] = NETWORKS[plan.architecture].build(configuration.topology).state_dict()
        content = {"network_weights": nnunet_names(states[fold], prefix), "trainer_name": "nnUNetTrainer",
                   "init_args": {"configuration": configuration.name, "fold": fold}, "_best_ema": np.float64(0.5),
                   "inference_allowed_mirroring_axes": configuration.mirror_axes} | changes
        (folder / f"fold_{fold}").mkdir(exist_ok=True)
        torch.save(content, folder / f"fold_{fold}" / checkpoint)
    return states


def change(file, alter):
    data = json.loads(file.read_text())
    alter(data)
    file.write_text(json.dumps(data))


def of(folder):
    return import_nnunet(folder, discover())


def refused(folder):
    with pytest.raises(SegError) as caught:
        of(folder)
    return int(caught.value.exit_code), str(caught.value)


@pytest.fixture
def folder(tmp_path):
    """A model of two folds."""
    path = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    make_folder(path, make_plan(), ("0", "1"))
    return path


@pytest.mark.parametrize("plan", [
    make_plan(), make_plan("resenc", labels=REGIONS), make_plan(patch=(16, 12), transpose=(1, 0, 2), labels=IGNORE),
    make_plan("resenc", patch=(16, 16)), make_plan(transpose=(2, 0, 1)),
], ids=range(5))  # fmt: skip
def test_predictions_are_those_of_the_same_weights(tmp_path, plan):
    ((name, configuration),) = plan.configurations.items()
    states = make_folder(tmp_path / "theirs", plan, ("0", "1"))
    found = of(tmp_path / "theirs")
    write_model(tmp_path / "imported", found.description, found.weights)
    use = ComponentUse(kind="architecture", name=plan.architecture, distribution="segplug", version="0.1.0")
    members = tuple(Member(configuration=name, fold=fold, weights=f"weights/{fold}.safetensors") for fold in states)
    description = ModelDescription(plan=plan, configurations={name: configuration}, members=members, chosen=(name,),
                                   architecture=use, ensembler=evolve(use, kind="ensembler", name="nnunet"),
                                   autocast="off", half_sums=True)
    write_model(tmp_path / "ours", description, {f"weights/{fold}.safetensors": states[fold] for fold in states})
    image = np.random.default_rng(0).standard_normal((1, 10, 20, 18)).astype(np.float32)
    (labels, probabilities), (expected, also) = (
        seg.load(tmp_path / which, device="cpu").predict_volume(image, (2.0, 1.0, 1.0), probabilities=True)
        for which in ("imported", "ours"))
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(probabilities, also)


def test_the_description_is_nnunets(folder):
    found = of(folder).description
    (configuration,) = found.configurations.values()
    assert found.plan.description.name == "Dataset001_D"
    assert [(member.configuration, member.fold) for member in found.members] == [("3d_fullres", "0"),
                                                                                 ("3d_fullres", "1")]
    assert configuration.mirror_axes == (1,)
    assert (found.autocast, found.half_sums, found.ensembler.name) == ("off", True, "nnunet")
    assert found.plan.description.orientation == ""
    assert {use.distribution for use in found.components} == {"segplug"}
    assert folder.name in found.made_by


def test_imported_models_predict_in_single_precision(folder, tmp_path):
    assert execute(["import-nnunet", str(folder), "-o", str(tmp_path / "m")]) == 0
    assert seg.load(tmp_path / "m", device="cpu").options.autocast == "off"


def test_half_the_precision_on_disk_is_no_matter(tmp_path):
    (configuration,) = make_plan().configurations.values()
    state = {name: value.half() for name, value in UNet().build(configuration.topology).state_dict().items()}
    make_folder(tmp_path, make_plan(), network_weights=nnunet_names(state))
    (weights,) = of(tmp_path).weights.values()
    assert all(value.dtype == torch.float32 and torch.equal(value, state[name]) for name, value in weights.items())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module."])
def test_wrapped_weights(tmp_path, prefix):
    states = make_folder(tmp_path, make_plan("resenc"), prefix=prefix)
    (weights,) = of(tmp_path).weights.values()
    assert all(torch.equal(weights[name], value) for name, value in states["0"].items())


@pytest.mark.parametrize(("folds", "taken"), [
    (("all",), ["all"]), (("0", "1", "all"), ["0", "1"]), (("10", "9"), ["9", "10"]), (("0", "0_old"), ["0"]),
])  # fmt: skip
def test_the_folds_that_nnunet_takes(tmp_path, folds, taken):
    make_folder(tmp_path, make_plan(), folds)
    found = of(tmp_path)
    assert [member.fold for member in found.description.members] == taken
    assert [record.code for record in found.records] == ["SEG-M09"] * (len(folds) - len(taken))


@pytest.mark.parametrize(("name", "warned"), [("checkpoint_final.pth", False), ("checkpoint_best.pth", True),
                                              ("checkpoint_latest.pth", True)])
def test_a_checkpoint_of_an_unfinished_training_is_taken_with_a_warning(tmp_path, name, warned):
    make_folder(tmp_path, make_plan(), checkpoint=name)
    make_folder(tmp_path, make_plan(), checkpoint="checkpoint_latest.pth")
    records = of(tmp_path).records
    assert [record.severity for record in records] == ["warning"] * warned
    assert all(name in record.file for record in records)


def test_an_unknown_trainer_is_told(tmp_path):
    make_folder(tmp_path, make_plan(), trainer_name="nnUNetTrainerMish")
    (record,) = of(tmp_path).records
    assert "nnUNetTrainerMish" in record.found


def test_a_trainer_without_mirroring(tmp_path):
    make_folder(tmp_path, make_plan(), inference_allowed_mirroring_axes=None)
    assert of(tmp_path).description.configurations["3d_fullres"].mirror_axes == ()


@pytest.mark.parametrize("reader", ["NibabelIOWithReorient", "SimpleITKIOWithReorient"])
def test_images_are_turned_as_nnunets_reader_does(folder, reader):
    change(folder / "plans.json", lambda plans: plans.update(image_reader_writer=reader))
    assert of(folder).description.plan.description.orientation == "RAS"


def test_other_configurations_are_not_looked_at(folder):
    def add(plans):
        plans["configurations"] |= {"mine": {"inherits_from": "3d_fullres", "preprocessor_name": "Mine"}, "bad": 3}

    change(folder / "plans.json", add)
    assert list(of(folder).description.plan.configurations) == ["3d_fullres"]


@pytest.mark.parametrize("name", ["dataset.json", "plans.json"])
def test_missing_files_are_exit_2(folder, name):
    (folder / name).unlink()
    code, told = refused(folder)
    assert code == 2
    assert f"no {name}" in told


def test_without_a_checkpoint_it_is_exit_2(folder):
    for fold in folder.glob("fold_*"):
        shutil.rmtree(fold)
    assert refused(folder)[0] == 2
    assert refused(folder / "absent")[0] == 2


def test_the_folder_above_names_its_models(folder):
    assert f"Name one of its folders: {folder.name}" in refused(folder.parent)[1]


def as_network(name):
    def alter(plans):
        plans["configurations"]["3d_fullres"]["architecture"]["network_class_name"] = name
    return alter


def as_options(**options):
    def alter(plans):
        plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"] |= options
    return alter


def as_cascade(plans):
    plans["configurations"]["3d_fullres"]["previous_stage"] = "3d_lowres"


@pytest.mark.parametrize(("alter", "told"), [
    (as_network("mine.UMambaBot"), "UMambaBot"), (as_cascade, "cascade"),
    (lambda plans: plans["configurations"]["3d_fullres"].update(preprocessor_name="Mine"), "Mine"),
    (lambda plans: plans["configurations"]["3d_fullres"].update(patch_size=[8, 16, 15]), "15 voxels"),
    (lambda plans: plans["configurations"].clear(), "3d_fullres"), (as_options(nonlin_first=True), "nonlin_first"),
    (as_options(nonlin="torch.nn.ReLU"), "ReLU"), (as_options(nonlin_kwargs={"negative_slope": 0.2}), "0.2"),
    (as_options(norm_op_kwargs={"eps": 1e-3, "affine": True}), "0.001"), (as_options(n_stages=4), "4"),
    (lambda plans: plans.pop("transpose_forward"), "transpose_forward"),
])  # fmt: skip
def test_plans_that_cannot_be_taken_are_exit_2(folder, alter, told):
    change(folder / "plans.json", alter)
    code, text = refused(folder)
    assert code == 2
    assert told in text


def test_an_architecture_that_reads_no_weights_of_nnunet_is_exit_6(folder):
    assert not hasattr(UNetPlusPlus, "from_nnunet")
    change(folder / "plans.json", as_network("unetpp"))
    code, told = refused(folder)
    assert code == 6
    assert "from_nnunet" in told


def test_regions_without_an_order_are_exit_3(tmp_path):
    make_folder(tmp_path, make_plan(labels=REGIONS))
    change(tmp_path / "dataset.json", lambda dataset: dataset.pop("regions_class_order"))
    code, told = refused(tmp_path)
    assert code == 3
    assert "regions_class_order" in told


def test_folds_of_other_trainings_are_exit_2(folder):
    make_folder(folder, make_plan(), ("1",), trainer_name="nnUNetTrainerOther")
    code, told = refused(folder)
    assert code == 2
    assert "nnUNetTrainerOther" in told


def test_mirror_axes_beyond_the_patch_are_exit_2(tmp_path):
    make_folder(tmp_path, make_plan(), inference_allowed_mirroring_axes=(3,))
    assert refused(tmp_path)[0] == 2


def altered(**changes):
    (configuration,) = make_plan().configurations.values()
    return nnunet_names(UNet(**changes).build(evolve(configuration.topology)).state_dict())


def without(name):
    return {key: value for key, value in altered().items() if not key.endswith(name)}


@pytest.mark.parametrize("weights", [
    altered(norm="batch"), without("seg_layers.1.bias"), altered() | {"encoder.more": torch.ones(1)},
    altered() | {"decoder.seg_layers.1.bias": torch.ones(2)}, {"a": torch.ones(1)},
], ids=range(5))  # fmt: skip
def test_weights_that_do_not_fit_are_exit_7(tmp_path, weights):
    make_folder(tmp_path, make_plan(), network_weights=weights, trainer_name="nnUNetTrainerBN")
    code, told = refused(tmp_path)
    assert code == 7
    assert "SEG-M02" in told
    assert "trained by nnUNetTrainerBN" in told


def test_weights_that_are_no_numbers_are_exit_3(tmp_path):
    make_folder(tmp_path, make_plan(),
                network_weights=altered() | {"decoder.seg_layers.1.bias": torch.full((3,), torch.nan)})
    assert refused(tmp_path)[0] == 3


def test_the_command(folder, tmp_path, capsys):
    words = ["import-nnunet", str(folder), "-o", str(tmp_path / "m")]
    assert execute(words) == 0
    assert "3d_fullres, fold 0, fold 1, trained by nnUNetTrainer" in capsys.readouterr().out
    before = (tmp_path / "m" / "MANIFEST.sha256").read_bytes()
    assert execute(words) == 2
    assert (tmp_path / "m" / "MANIFEST.sha256").read_bytes() == before
    (folder / "fold_0" / "checkpoint_final.pth").write_bytes(b"\x80\x04.")
    assert execute([*words[:-1], str(tmp_path / "n")]) == 7
    assert "SEG-M07" in capsys.readouterr().err
    assert not (tmp_path / "n").exists()
