"""Decoder of the RD4AD student: it reconstructs the teacher's levels from the code, deepest level first."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from anoframe.errors import AnoframeError
from anoframe.models.rd4ad.blocks import Residual, inner_width

MIN_INNER_WIDTH = 16


def build_decoder(
    channels: Sequence[int], strides: Sequence[int], code: int, depths: Sequence[int], width: float, block: str
) -> nn.ModuleList:
    """One sequence of residual blocks per level, shallow first; each takes the output of the next deeper one.

    Args:
        channels, strides: of each teacher level, shallow first.
        code: channels of the code, whose stride is twice that of the deepest level.
        depths: residual blocks per level, **deepest first**.
        width: inner width of a block as a share of its output.
        block: `"bottleneck"` or `"basic"`.
    """
    widths, grids = [*channels, code], [*strides, 2 * strides[-1]]
    return nn.ModuleList(
        _level(widths[i + 1], widths[i], grids[i + 1] // grids[i], depth, width, block)
        for i, depth in enumerate(reversed(depths))
    )


def build_heads(channels: Sequence[int], signed: bool | Sequence[bool]) -> nn.ModuleList:
    """Output layer per level: a linear 1x1 convolution for signed levels, else none, so that the level ends in a ReLU.

    Args:
        channels: of each teacher level, shallow first.
        signed: whether the levels have negative values, for all levels or for each.
    """
    per_level = (signed,) * len(channels) if isinstance(signed, bool) else signed
    heads = (nn.Conv2d(c, c, 1) if s else nn.Identity() for c, s in zip(channels, per_level, strict=True))
    return nn.ModuleList(heads)


def check_depths(depths: Sequence[int] | None, levels: int) -> tuple[int, ...]:
    """Return blocks per level, deepest first; for None (3, 4, 6) with three levels, else 3 each.

    Raises:
        AnoframeError: not one number of at least 1 per level.
    """
    if depths is None:
        return (3, 4, 6) if levels == 3 else (3,) * levels
    if len(depths) != levels or min(depths) < 1:
        raise AnoframeError(
            f"model.depths has one number, at least 1, for each of {levels} levels, got {tuple(depths)}"
        )
    return tuple(depths)


def _level(inputs: int, outputs: int, ratio: int, depth: int, width: float, block: str) -> nn.Sequential:
    """Blocks that double the resolution `log2(ratio)` times, then further blocks up to `depth`."""
    doublings = ratio.bit_length() - 1
    scales = [2] * doublings + [1] * (depth - doublings)
    inner = inner_width(block, outputs, width, MIN_INNER_WIDTH)
    return nn.Sequential(*(Residual(outputs if i else inputs, outputs, inner, s) for i, s in enumerate(scales)))
