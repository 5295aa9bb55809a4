"""Bottleneck of the RD4AD student: fusion of the teacher's levels, then the embedding that computes the code.

The paper calls it "one-class bottleneck embedding".
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from anoframe.models.rd4ad.blocks import Residual, conv_bn_relu, inner_width, round_up_to_8

MIN_FUSED_CHANNELS = 64
MIN_INNER_WIDTH = 64


def fused_channels(channels: Sequence[int]) -> int:
    """Channels of each level after the fusion: those of the deepest level, at least 64."""
    return max(channels[-1], MIN_FUSED_CHANNELS)


def build_fusion(channels: Sequence[int], strides: Sequence[int], fuse: bool) -> nn.ModuleList:
    """One branch per level, which brings it to the grid and the width of the deepest level.

    Args:
        channels, strides: of each teacher level, shallow first.
        fuse: False leaves out all levels except the deepest.
    """
    outputs = fused_channels(channels)
    levels = list(zip(channels[:-1], strides[:-1], strict=True)) if fuse else []
    finer = [_branch(inputs, outputs, strides[-1] // stride) for inputs, stride in levels]
    deepest = nn.Identity() if channels[-1] == outputs else conv_bn_relu(channels[-1], outputs, 1)
    return nn.ModuleList([*finer, deepest])


def build_embedding(inputs: int, code: int, width: float, block: str, depth: int) -> nn.Sequential:
    """`depth` residual blocks that reduce the fused maps to the code; the first one halves the resolution.

    Args:
        inputs: channels of all fused levels together.
        code: channels of the code.
        width: inner width of a block as a share of its output.
        block: `"bottleneck"` or `"basic"`.
    """
    inner = inner_width(block, code, width, MIN_INNER_WIDTH)
    widths = [inputs, *[code] * (depth - 1)]
    return nn.Sequential(*(Residual(c, code, inner, 1 if i else 0.5) for i, c in enumerate(widths)))


def _branch(inputs: int, outputs: int, ratio: int) -> nn.Module:
    """Halve the resolution until it is that of the deepest level; widths grow by equal ratios."""
    halvings = ratio.bit_length() - 1
    if halvings == 0:
        return conv_bn_relu(inputs, outputs, 1)
    between = [round_up_to_8(inputs * (outputs / inputs) ** (i / halvings)) for i in range(1, halvings)]
    widths = [inputs, *between, outputs]
    return nn.Sequential(*(conv_bn_relu(a, b, 3, 0.5) for a, b in pairwise(widths)))
