"""From scores on a coarse grid to a map at the image's resolution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def upsample(scores: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """`[B, h, w]` to `[B, H, W]`, bilinear."""
    return F.interpolate(scores[:, None], size=size, mode="bilinear", align_corners=align_corners)[:, 0]


def gaussian_blur(maps: Tensor, sigma: float) -> Tensor:
    """Blur `[B, H, W]` as `scipy.ndimage.gaussian_filter(sigma)` does: cut at 4 sigma, border repeated with its edge.

    A constant map stays constant, and mass away from the border is kept.
    """
    if sigma <= 0:
        return maps
    if len(maps) > 1:  # one at a time: a convolution chooses its kernel, and so its rounding, by the size of the batch
        return torch.cat([gaussian_blur(one, sigma) for one in maps.split(1)])
    radius = int(4 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(maps)
    height, width = maps.shape[-2:]
    rows = maps[:, None, _mirrored(height, radius, maps.device), :]
    down = F.conv2d(rows, kernel.view(1, 1, -1, 1))
    columns = down[..., _mirrored(width, radius, maps.device)]
    return F.conv2d(columns, kernel.view(1, 1, 1, -1))[:, 0]


def _mirrored(length: int, radius: int, device: torch.device) -> Tensor:
    """Indices of a line with its half-sample symmetric border (d c b a | a b c d | d c b a), however short the line."""
    positions = torch.arange(-radius, length + radius, device=device) % (2 * length)
    return torch.minimum(positions, 2 * length - 1 - positions)
