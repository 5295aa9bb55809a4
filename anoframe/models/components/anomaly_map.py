"""Anomaly maps at the resolution of the image, from scores on a coarse grid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anoframe.models.components.linear_maps import blur_matrix, resize_matrix, transform


def upsample(scores: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """Resize `[B, h, w]` to `[B, H, W]` by bilinear interpolation."""
    if torch.compiler.is_exporting():
        matrices = (resize_matrix(a, b, align_corners) for a, b in zip(scores.shape[-2:], size, strict=True))
        return transform(scores, *matrices)
    return F.interpolate(scores[:, None], size=size, mode="bilinear", align_corners=align_corners)[:, 0]


def gaussian_blur(maps: Tensor, sigma: float) -> Tensor:
    """Blur `[B, H, W]` like `scipy.ndimage.gaussian_filter(sigma)`: truncated at 4 sigma, edge pixels mirrored.

    A constant map stays constant, and the sum of a map is kept. A `sigma` of 0 or less returns the maps unchanged.
    """
    if sigma <= 0:
        return maps
    if torch.compiler.is_exporting():
        return transform(maps, *(blur_matrix(length, sigma) for length in maps.shape[-2:]))
    if len(maps) > 1:  # one map at a time: torch chooses the convolution kernel, and so the rounding, by batch size
        return torch.cat([gaussian_blur(single, sigma) for single in maps.split(1)])
    radius = int(4 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(maps)
    height, width = maps.shape[-2:]
    padded_rows = maps[:, None, _mirrored_indices(height, radius, maps.device), :]
    vertical = F.conv2d(padded_rows, kernel.view(1, 1, -1, 1))
    padded_columns = vertical[..., _mirrored_indices(width, radius, maps.device)]
    return F.conv2d(padded_columns, kernel.view(1, 1, 1, -1))[:, 0]


def _mirrored_indices(length: int, radius: int, device: torch.device) -> Tensor:
    """Indices of a line with half-sample symmetric borders (d c b a | a b c d | d c b a); the line may be short."""
    positions = torch.arange(-radius, length + radius, device=device) % (2 * length)
    return torch.minimum(positions, 2 * length - 1 - positions)
