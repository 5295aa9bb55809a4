"""Resizing and smoothing of maps as matrices, for exported models.

Bilinear interpolation and a Gaussian are linear and separable, so both are `rows @ map @ columns^T`, and one after the
other is one pair of matrices. A runtime computes a matrix product alike everywhere, while rules of borders and corners
differ between runtimes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Matrix = NDArray[np.float64]


def resize_matrix(source: int, target: int, align_corners: bool = False) -> Matrix:
    """Return the matrix `[target, source]` of torch's bilinear interpolation of a line.

    >>> resize_matrix(2, 3, align_corners=True)
    array([[1. , 0. ],
           [0.5, 0.5],
           [0. , 1. ]])
    """
    if align_corners:
        positions = np.arange(target) * ((source - 1) / max(target - 1, 1))
    else:
        positions = np.maximum((np.arange(target) + 0.5) * (source / target) - 0.5, 0)
    low = np.minimum(positions.astype(int), source - 1)
    high, share = np.minimum(low + 1, source - 1), positions - low
    matrix = np.zeros((target, source))
    np.add.at(matrix, (np.arange(target), low), 1 - share)
    np.add.at(matrix, (np.arange(target), high), share)
    return matrix


def cubic_matrix(source: int, target: int) -> Matrix:
    """Return the matrix `[target, source]` of torch's bicubic interpolation of a line with antialiasing."""
    scale = source / target
    width = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale
    x = np.abs(np.arange(source) + 0.5 - centres[:, None]) / width
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2  # a = -0.5
    matrix = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return np.asarray(matrix / matrix.sum(1, keepdims=True))


def pooling_matrix(source: int, middle: int, target: int) -> Matrix:
    """Return the matrix `[target, source]` of torch's adaptive average pooling of a line to `middle` values.

    These are then averaged in groups to `target` values, a divisor of `middle`.
    """
    matrix = np.zeros((middle, source))
    for row in range(middle):
        first, last = row * source // middle, -(-(row + 1) * source // middle)
        matrix[row, first:last] = 1 / (last - first)
    return np.asarray(matrix.reshape(target, middle // target, source).mean(1))


def blur_matrix(length: int, sigma: float) -> Matrix:
    """Return the matrix `[length, length]` of `anomaly_map.gaussian_blur` on a line: 4 sigma, mirrored borders."""
    if sigma <= 0:
        return np.eye(length)
    radius = int(4 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    positions = (np.arange(length)[:, None] + offsets) % (2 * length)
    matrix = np.zeros((length, length))
    rows = np.arange(length)[:, None].repeat(len(offsets), 1)
    np.add.at(matrix, (rows, np.minimum(positions, 2 * length - 1 - positions)), kernel / kernel.sum())
    return matrix


def smoothing_matrix(source: int, target: int, sigma: float) -> Matrix:
    """Return the matrix `[target, source]` that resizes a line and then smooths it."""
    return np.asarray(blur_matrix(target, sigma) @ resize_matrix(source, target))


def transform(maps: Tensor, rows: Matrix, columns: Matrix) -> Tensor:
    """Apply a matrix to the rows and another to the columns of maps `[..., h, w]`: `[..., H, W]`."""
    row_matrix, column_matrix = (torch.from_numpy(m.astype(np.float32)).to(maps.device) for m in (rows, columns))
    return row_matrix @ (maps @ column_matrix.T)
