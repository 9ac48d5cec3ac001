"""How a model combines its folds: in memory or part by part, with the labels where an ensembler asks for them."""

import pytest
import torch
from attrs import evolve, field, frozen

import seg
from seg import Configuration, Description, Labels, Plan
from seg.model_files import Member, ModelDescription, write_model
from seg.models import ComponentUse
from seg.room import FileMaps
from seg.settings import PredictOptions
from seg_basic.ensemblers import MeanEnsembler
from seg_unet.unet import UNet

LABELS = Labels(values={"background": 0, "cell": 1, "core": 2})
FILES = {fold: f"weights/3d_fullres_fold_{fold}.safetensors" for fold in "01"}


@frozen(kw_only=True)
class Boldest(MeanEnsembler):
    """Of each voxel all maps of the fold whose largest logit is largest: it must see all classes."""

    seen: list = field(factory=list)

    def for_labels(self, labels):
        self.seen.append(labels)
        return self

    def combine_folds(self, logits):
        best = None
        for one in logits:
            self.seen.append(tuple(one.shape))
            best = one.clone() if best is None else torch.where(one.amax(0) > best.amax(0), one, best)
        return best


def use(kind, name):
    return ComponentUse(kind=kind, name=name, distribution="segplug", version="0.1.0")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Two random networks of one configuration."""
    folder = tmp_path_factory.mktemp("m") / "model"
    topology = UNet(features=4).topology([(3, 3, 3)] * 2, [(1, 1, 1), (2, 2, 2)], 1, LABELS.outputs)
    one = Configuration(name="3d_fullres", spacing=(1.0, 1.0, 1.0), median_shape=(7, 8, 8), patch=(4, 8, 8), batch=2,
                        topology=topology, normalization=("zscore",), use_mask_for_norm=(False,), mirror_axes=())
    plan = Plan(description=Description(name="d", channel_names=("MR",), labels=LABELS, training_cases=4),
                planner="p", architecture="unet", transpose_forward=(0, 1, 2), original_median_shape=(7.0, 8.0, 8.0),
                original_median_spacing=(1.0, 1.0, 1.0), intensities=(), configurations={"3d_fullres": one})
    members = tuple(Member(configuration="3d_fullres", fold=fold, weights=file) for fold, file in FILES.items())
    description = ModelDescription(plan=plan, configurations={"3d_fullres": one}, chosen=("3d_fullres",),
                                   members=members, architecture=evolve(use("architecture", "unet"),
                                                                        options={"features": 4}),
                                   ensembler=use("ensembler", "mean"))
    torch.manual_seed(0)
    write_model(folder, description, {file: UNet(features=4).build(topology).state_dict() for file in FILES.values()})
    return seg.load(folder, device="cpu")


@pytest.mark.parametrize("kind", [MeanEnsembler, Boldest])
def test_folds_combined_part_by_part_are_those_combined_in_memory(model, kind):
    image = torch.randn((1, 7, 8, 8), generator=torch.Generator().manual_seed(1))
    small = PredictOptions(max_memory_gb=1e-9)
    there = evolve(model, ensembler=kind()).logits("3d_fullres", image)
    found = evolve(model, ensembler=kind(), options=small).logits("3d_fullres", image)
    assert isinstance(there, torch.Tensor)
    assert isinstance(found, FileMaps)
    torch.testing.assert_close(found[:], there)


def test_an_ensembler_that_asks_sees_all_classes_and_is_told_their_labels(model):
    ensembler = Boldest()
    image = torch.zeros((1, 7, 8, 8))
    evolve(model, ensembler=ensembler, options=PredictOptions(max_memory_gb=1e-9)).logits("3d_fullres", image)
    shapes = [one for one in ensembler.seen if isinstance(one, tuple)]
    assert {shape[0] for shape in shapes} == {3}
    assert len(shapes) > 2
    assert LABELS in ensembler.seen
