"""Patch embeddings: one vector per location, computed from its neighbourhood at several feature levels.

Three methods, all on the grid of the first level, with a neighbourhood of `patch_size` x `patch_size` locations:

- `pooled`: PatchCore's reference code. The neighbourhoods of each level are pooled to `pretrain_dim` values, and
  the concatenated levels are pooled to `target_dim` values;
- the closed form of `pooled` for WideResNet-50-2 layer2 + layer3, 3x3 and 1024/1024, used where it applies;
- `concat`: anomalib's averages of neighbourhoods, concatenated without pooling (WideResNet-50-2: 1536 values).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.components.linear_maps import pooling_matrix

METHODS = ("pooled", "concat")


class PatchEmbedding:
    """Embedding of feature maps as patches.

    Args:
        method: `"pooled"` or `"concat"`.
        pretrain_dim: width of each level's pooled neighbourhood; not used by `concat`.
        target_dim: width of the embedding; not used by `concat`.
        patch_size: side of a neighbourhood in locations of its level, an odd number; 3 as published.
    """

    def __init__(self, method: str = "pooled", pretrain_dim: int = 1024, target_dim: int = 1024, patch_size: int = 3):
        if method not in METHODS:
            raise AnoframeError(f"model.embedding.method is one of {', '.join(METHODS)}, got {method!r}")
        if pretrain_dim < 1 or target_dim < 1:
            got = f"model.embedding.pretrain_dim {pretrain_dim} and model.embedding.target_dim {target_dim}"
            raise AnoframeError(f"widths of an embedding are at least 1, got {got}")
        if patch_size < 1 or patch_size % 2 == 0:
            raise AnoframeError(f"model.embedding.patch_size is an odd number, 1 or more, got {patch_size}")
        self.method, self.pretrain_dim, self.target_dim = method, pretrain_dim, target_dim
        self.patch_size = patch_size

    def __call__(self, levels: Sequence[Tensor]) -> tuple[Tensor, tuple[int, int]]:
        """Embed one `[B, C_l, h_l, w_l]` map per level.

        Returns:
            patches `[B, h * w, D]` in row-major order, and the grid `(h, w)`.
        """
        height, width = levels[0].shape[-2:]
        if self.method == "concat":
            maps = concat_embedding(levels, self.patch_size)
        elif self.closed_form_applies([level.shape[1] for level in levels]):
            maps = closed_form_embedding(*levels)
        else:
            maps = pooled_embedding(levels, self.pretrain_dim, self.target_dim, self.patch_size)
        return maps.flatten(2).transpose(1, 2).contiguous(), (height, width)

    def closed_form_applies(self, channels: Sequence[int]) -> bool:
        return (self.patch_size, self.pretrain_dim, self.target_dim, *channels) == (3, 1024, 1024, 512, 1024)


def pooled_embedding(levels: Sequence[Tensor], pretrain_dim: int, target_dim: int, patch_size: int = 3) -> Tensor:
    """Compute the embedding of the reference code for any channels and dimensions: `[B, target_dim, h, w]`.

    Pooling mixes values of one location and resizing mixes locations of one value, so their order does not matter;
    pooling first leaves less to resize. If no bin of the last pooling has values of two levels, it also comes first.
    """
    grid = levels[0].shape[-2:]
    per_level, rest = divmod(target_dim, len(levels))
    separate = rest == 0 and pretrain_dim % per_level == 0
    dim = per_level if separate else pretrain_dim
    pooled = [_resize(_pool_neighbourhoods(level, pretrain_dim, dim, patch_size), grid) for level in levels]
    stacked = torch.cat(pooled, dim=1)
    if separate:
        return stacked
    return F.adaptive_avg_pool1d(stacked.flatten(2).transpose(1, 2), target_dim).transpose(1, 2).unflatten(2, grid)


def _pool_neighbourhoods(level: Tensor, pretrain_dim: int, dim: int, patch_size: int) -> Tensor:
    """Pool neighbourhoods, channel-major, to `pretrain_dim` values, and these to `dim`, a divisor of it."""
    if torch.compiler.is_exporting():
        bins = pooling_matrix(level.shape[1] * patch_size**2, pretrain_dim, dim)
        weights = torch.from_numpy(bins.reshape(dim, level.shape[1], patch_size, patch_size).astype(np.float32))
        return F.conv2d(level, weights, padding=patch_size // 2)
    unfolded = F.unfold(level, kernel_size=patch_size, padding=patch_size // 2)
    blocks = unfolded.transpose(1, 2)  # [B, h_l * w_l, C_l * patch_size**2]
    blocks = F.avg_pool1d(F.adaptive_avg_pool1d(blocks, pretrain_dim), pretrain_dim // dim)
    return blocks.transpose(1, 2).unflatten(2, level.shape[-2:])


def closed_form_embedding(fine: Tensor, coarse: Tensor) -> Tensor:
    """Compute `pooled_embedding` of 512 and 1024 channels, 3x3 and 1024/1024, with three cheap operations.

    Nine neighbours of 512 channels pooled to 1024 values give bins of 4.5 values that share the centre, and pooling
    pairs of bins gives `(sum of the 3x3 + centre) / 10`. Nine neighbours of 1024 channels become their mean, averaged
    over pairs of channels. So levels are never mixed, and the centre of the fine level counts twice.
    """
    first = (9 * F.avg_pool2d(fine, 3, stride=1, padding=1) + fine) / 10
    means = F.avg_pool2d(coarse, 3, stride=1, padding=1)
    second = means.unflatten(1, (-1, 2)).mean(2)
    return torch.cat([first, _resize(second, fine.shape[-2:])], dim=1)


def concat_embedding(levels: Sequence[Tensor], patch_size: int = 3) -> Tensor:
    """Compute anomalib's embedding: averages (zero padded), resized, concatenated: `[B, sum of C_l, h, w]`."""
    grid, padding = levels[0].shape[-2:], patch_size // 2
    averages = [F.avg_pool2d(level, patch_size, stride=1, padding=padding) for level in levels]
    return torch.cat([_resize(average, grid) for average in averages], dim=1)


def _resize(maps: Tensor, grid: Sequence[int]) -> Tensor:
    if tuple(maps.shape[-2:]) == tuple(grid):
        return maps
    return F.interpolate(maps, size=tuple(grid), mode="bilinear", align_corners=False)
