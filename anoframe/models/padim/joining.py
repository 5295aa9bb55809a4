"""Features of several levels on one grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def resize_and_join(levels: Sequence[Tensor], grid: Sequence[int]) -> Tensor:
    """Resize levels `[B, d_l, h_l, w_l]` to a grid and join their channels: `[B, h, w, d]`; levels may be empty."""
    resized = [F.interpolate(maps, size=tuple(grid), mode="nearest") for maps in levels if maps.shape[1]]
    return torch.cat(resized, dim=1).permute(0, 2, 3, 1)
