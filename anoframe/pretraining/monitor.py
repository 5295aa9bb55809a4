"""Measurements that tell learning from collapse."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def spread(vectors: Tensor) -> Tensor:
    """Standard deviation of unit vectors over a batch, mean over the dimensions, times the root of their number.

    It is about 1 for directions that are uniform on the sphere, and 0 if all vectors point in the same direction, which
    is collapse (Chen and He, CVPR 2021, section 4.1). Features after a ReLU lie in one orthant and stay below 1.

    Args:
        vectors: `[N, D]`.

    >>> float(spread(torch.ones(8, 4)))
    0.0
    """
    units = F.normalize(vectors.float(), dim=1)
    return units.std(0, unbiased=False).mean() * units.shape[1] ** 0.5
