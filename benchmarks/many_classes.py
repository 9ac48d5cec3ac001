"""Memory of a prediction with many classes: a case of 300×512×512 voxels, 118 classes, a stub for the network.

    python benchmarks/many_classes.py [--max-memory 1] [--classes 118] [--shape 300,512,512]

The model's spacing is 1.5 times the case's, so that 118 maps of 200×341×341 voxels (11 GB in float32) are gathered, and
resampled to the case's grid. Prints the peak of the process' memory, imports included, and the time of each part.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import torch
from attrs import evolve
from torch import Tensor, nn

from seg.device import choose_device
from seg.discovery import discover
from seg.model import Model
from seg.model_files import ModelDescription
from seg.models import ComponentUse, Configuration, Description, Labels, Plan, Topology
from seg.normalisation import Normalisers
from seg.settings import PredictOptions

SHAPE, PATCH = (300, 512, 512), (128, 128, 128)


class Stub(nn.Module):
    """Each class has a value that it likes best."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.centres = torch.linspace(-2, 2, classes)[:, None, None, None]

    def forward(self, tiles: Tensor) -> list[Tensor]:
        """Logits (B, K, *patch)."""
        return [(tiles - self.centres).abs_().neg_()]


def main() -> None:
    """Predict the case, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-memory", type=float, default=1.0, help="of the maps, in GB")
    parser.add_argument("--classes", type=int, default=118)
    parser.add_argument("--shape", default=",".join(map(str, SHAPE)), help="voxels z,y,x")
    given = parser.parse_args()
    model = stub_model(given.classes, given.max_memory)
    rng = np.random.default_rng(0)
    image = rng.standard_normal((1, *map(int, given.shape.split(","))), dtype=np.float32)
    started = time.perf_counter()
    labels, _ = model.predict_volume(image, (1.0, 1.0, 1.0))
    seconds, peak = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"{given.classes} classes, {labels.shape}: peak {peak:.2f} GiB, {seconds:.0f} s, "
          f"{len(np.unique(labels))} classes found")


def stub_model(classes: int, max_memory: float) -> Model:
    """A model of one stub."""
    topology = Topology(in_channels=1, outputs=classes, features=(8,), kernels=((3, 3, 3),), strides=((1, 1, 1),),
                        blocks=(1,), decoder_blocks=())
    configuration = Configuration(name="3d_fullres", spacing=(1.5, 1.5, 1.5), median_shape=PATCH, patch=PATCH, batch=2,
                                  topology=topology, normalization=("zscore",), use_mask_for_norm=(False,),
                                  mirror_axes=(2,))
    labels = Labels(values={"background": 0, **{f"class {index}": index for index in range(1, classes)}})
    plan = Plan(description=Description(name="stub", channel_names=("CT",), labels=labels, training_cases=1),
                planner="nnunet", architecture="unet", transpose_forward=(0, 1, 2), intensities=(),
                original_median_spacing=(1.0, 1.0, 1.0), original_median_shape=(300.0, 512.0, 512.0),
                configurations={"3d_fullres": configuration})
    ensembler, use = discover().build("ensembler", "mean")
    description = ModelDescription(
        plan=plan, configurations={"3d_fullres": configuration}, members=(), chosen=("3d_fullres",),
        architecture=ComponentUse(kind="architecture", name="unet", distribution="segplug", version="0"),
        ensembler=use, components=(), made_by="stub")
    return Model(description=description, digest="", device=choose_device("cpu"),
                 options=evolve(PredictOptions(), max_memory_gb=max_memory), ensembler=ensembler,
                 normalisers=Normalisers.resolve([configuration], discover()),
                 networks={"3d_fullres": [Stub(classes)]})


if __name__ == "__main__":
    main()
