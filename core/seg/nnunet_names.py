"""The weights of nnU-Net's networks under the names of networks that are made of `seg`'s blocks.

nnU-Net 2.8 takes its networks from dynamic_network_architectures 0.4. There the levels of a decoder count from the
coarsest, here from the finest; and most tensors stand in a state under several names: the decoder holds the encoder
again, a block its convolution and its norm again as `all_modules`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")
ALIASES = {r"^decoder\.encoder\.": "encoder.", r"\.all_modules\.0\.": ".conv.", r"\.all_modules\.1\.": ".norm."}
DECODER = {r"^decoder\.stages\.{}\.convs\.": "decoder.{}.convolutions.",
           r"^decoder\.transpconvs\.{}\.": "decoder.{}.up.",
           r"^decoder\.seg_layers\.{}\.": "heads.{}."}  # fmt: skip


def rename_nnunet(weights: Mapping[str, T], encoder: Mapping[str, str]) -> dict[str, T]:
    """The weights of one of nnU-Net's U-Nets under our names.

    Of a network that has an `UpBlock` for each level in `decoder`, and an `output_head` for each in `heads`. Of several
    names for one tensor the last counts, as where nnU-Net loads them. A name that no rule knows stays as it is, so that
    it is told as not fitting.

    Args:
        weights: a state of nnU-Net's network.
        encoder: nnU-Net's names in the encoder, up to those of a convolution and its norm, as regular expressions, and
            what each becomes (as in `re.sub`).
    """
    levels = sum(bool(re.fullmatch(r"decoder\.transpconvs\.\d+\.weight", name)) for name in weights)
    decoder = {theirs.format(levels - 1 - level): ours.format(level)
               for level in range(levels) for theirs, ours in DECODER.items()}
    rules = ALIASES | dict(encoder) | decoder
    renamed = {}
    for name, value in weights.items():
        for theirs, ours in rules.items():
            name = re.sub(theirs, ours, name)  # noqa: PLW2901 - one rule after the other
        renamed[name] = value
    return renamed
