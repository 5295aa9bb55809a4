"""Loss of CDO: discrepancies of normal locations are pulled to zero, those of synthetic defects are pushed apart.

Cao et al., "Collaborative Discrepancy Optimization for Reliable Image Anomaly Localization", IEEE Transactions on
Industrial Informatics 2023: margin optimisation (MOM, the synthetic defects) and overlap optimisation (OOM, weights
that emphasise normal locations with a large and synthetic ones with a small discrepancy).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_SMALLEST = 1e-6  # of discrepancies in weights: the published code divides by zero for equal features


def discrepancies(expert: Sequence[Tensor], apprentice: Sequence[Tensor]) -> list[Tensor]:
    """Compute the squared distance of unit feature vectors at each location, at the size of the first level.

    Args:
        expert, apprentice: one map `[B, C_l, h_l, w_l]` per level.

    Returns:
        One map `[B, h_1, w_1]` per level, float32, in [0, 4].
    """
    size = expert[0].shape[-2:]
    maps = []
    for target, output in zip(expert, apprentice, strict=True):
        first, second = (F.normalize(_resize(level.float(), size), dim=1) for level in (target, output))
        maps.append((first - second).square().sum(1))
    return maps


def cdo_loss(discrepancy: Tensor, mask: Tensor, gamma: float = 2.0) -> Tensor:
    """Compute the loss of one level.

        L = B (sum_n w_n d_n - sum_s w_s d_s) / (sum_n w_n + sum_s w_s)

    with `w_n = (d / mu_n)^gamma`, `w_s = (mu_s / d)^gamma`, and `mu` the mean discrepancy of the normal (n) and of the
    synthetic (s) locations of the batch. No gradient flows through the weights.

    Args:
        discrepancy: `[B, h, w]`.
        mask: `[B, H, W]` bool, True for synthetic defects; resized to `[h, w]` by nearest neighbour.
        gamma: exponent of the weights; 0 weights all locations equally (OOM off).

    Returns:
        A scalar in [-4B, 4B].
    """
    count, *size = discrepancy.shape
    synthetic = F.interpolate(mask[:, None].float(), size=size)[:, 0] != 0
    normal, apart = discrepancy[~synthetic], discrepancy[synthetic]
    normal_weights = (_weighted(normal) / _weighted(normal).mean()) ** gamma if len(normal) else normal.detach()
    apart_weights = (_weighted(apart).mean() / _weighted(apart)) ** gamma if len(apart) else apart.detach()
    total = normal_weights.sum() + apart_weights.sum()
    return count * ((normal_weights * normal).sum() - (apart_weights * apart).sum()) / total


def _weighted(values: Tensor) -> Tensor:
    return values.detach().clamp_min(_SMALLEST)


def _resize(level: Tensor, size: Sequence[int]) -> Tensor:
    if level.shape[-2:] == torch.Size(size):
        return level
    return F.interpolate(level, size=tuple(size), mode="bilinear", align_corners=True)
