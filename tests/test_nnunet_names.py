"""nnU-Net's names become ours, whatever alias a tensor stands under."""

import pytest

from seg import rename_nnunet
from seg_resenc.resenc import ResEncUNet
from seg_unet.unet import UNet

UPSAMPLING = [f"decoder.transpconvs.{level}.weight" for level in range(4)]  # so that there are four levels


@pytest.mark.parametrize(("network", "theirs", "ours"), [
    (UNet(), "encoder.stages.0.0.convs.1.conv.weight", "encoder.0.1.conv.weight"),
    (UNet(), "encoder.stages.10.0.convs.0.norm.bias", "encoder.10.0.norm.bias"),
    (UNet(), "encoder.stages.4.0.convs.0.all_modules.0.bias", "encoder.4.0.conv.bias"),
    (UNet(), "decoder.encoder.stages.4.0.convs.0.all_modules.1.weight", "encoder.4.0.norm.weight"),
    (ResEncUNet(), "encoder.stem.convs.0.conv.weight", "stem.conv.weight"),
    (ResEncUNet(), "encoder.stages.2.blocks.1.conv1.norm.bias", "encoder.2.1.first.norm.bias"),
    (ResEncUNet(), "encoder.stages.2.blocks.1.conv2.all_modules.0.weight", "encoder.2.1.second.conv.weight"),
    (ResEncUNet(), "decoder.encoder.stages.1.blocks.0.skip.1.conv.weight", "encoder.1.0.skip.1.conv.weight"),
    (UNet(), "decoder.stages.0.convs.1.conv.weight", "decoder.3.convolutions.1.conv.weight"),
    (ResEncUNet(), "decoder.stages.3.convs.0.all_modules.1.bias", "decoder.0.convolutions.0.norm.bias"),
    (UNet(), "decoder.transpconvs.1.bias", "decoder.2.up.bias"),
    (UNet(), "decoder.seg_layers.3.weight", "heads.0.weight"),
    (UNet(), "decoder.seg_layers.4.weight", "decoder.seg_layers.4.weight"),
    (UNet(), "encoder.stem.convs.0.conv.weight", "encoder.stem.convs.0.conv.weight"),
    (UNet(), "decoder.transpconvs.99999999999.weight", "decoder.transpconvs.99999999999.weight"),
])  # fmt: skip
def test_names(network, theirs, ours):
    more = UPSAMPLING[:-1] if "999" in theirs else UPSAMPLING
    assert network.from_nnunet(dict.fromkeys(more, 0) | {theirs: 1})[ours] == 1


def test_of_several_names_the_last_counts():
    found = rename_nnunet({"a.conv.weight": 1, "a.all_modules.0.weight": 2, "b": 3}, {"^a": "c"})
    assert found == {"c.conv.weight": 2, "b": 3}
