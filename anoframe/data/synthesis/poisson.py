"""Poisson image editing (Perez et al., SIGGRAPH 2003) by a direct solution of the discrete equation.

For each pixel p of the region and its four neighbours q (equation 7 of the paper):

    4 f_p - sum of f_q in the region = sum of f*_q outside of the region + sum of v_pq

with the target f*, and the guidance v_pq = g_p - g_q of the source g. Mixed gradients take f*_p - f*_q where it is
larger in magnitude. A rectangular region is solved with sine transforms, in about a millisecond for 100 x 100 pixels;
any other region by a sparse factorisation.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu

from anoframe.data.synthesis.base import Field, Mask
from anoframe.errors import AnoframeError

GRADIENTS = ("normal", "mixed")


def poisson_edit(target: Field, source: Field, region: Mask, gradients: str = "normal") -> Field:
    """Fill a region of the target with the gradients of the source.

    Args:
        target: [H, W, C].
        source: [H, W, C], aligned with the target.
        region: bool [H, W]; False at the border of the image.
        gradients: `normal` uses the gradients of the source, `mixed` the stronger of source and target in each channel.

    Returns:
        float64 [H, W, C], equal to the target outside of the region; neither rounded nor clipped.

    Raises:
        AnoframeError: shapes differ, the region touches the border, or `gradients` is unknown.
    """
    if target.shape != source.shape or target.shape[:2] != region.shape or gradients not in GRADIENTS:
        raise AnoframeError(
            f"poisson_edit takes target and source of one shape, a region of that size and gradients from {GRADIENTS}; "
            f"got {target.shape}, {source.shape}, {region.shape}, {gradients!r}"
        )
    if region[[0, -1]].any() or region[:, [0, -1]].any():
        raise AnoframeError("poisson_edit: the region touches the border of the image; leave a border of one pixel")
    result = np.array(target, np.float64)
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    if not len(rows):
        return result
    # The bounding box of the region with a border of one pixel, where the target is given
    area = (slice(rows[0] - 1, rows[-1] + 2), slice(columns[0] - 1, columns[-1] + 2))
    known, inner = result[area], region[area][1:-1, 1:-1]
    right_side = divergence(known, np.asarray(source[area], np.float64), gradients) + _boundary(known, region[area])
    solve = _solve_rectangle if inner.all() else _solve_sparse
    result[region] = solve(right_side, inner)
    return result


def divergence(target: Field, source: Field, gradients: str) -> Field:
    """Return the sum of the guidance v_pq over the four neighbours q of each inner pixel p, [H - 2, W - 2, C]."""
    down, right = np.diff(source, axis=0), np.diff(source, axis=1)
    if gradients == "mixed":
        target_down, target_right = np.diff(target, axis=0), np.diff(target, axis=1)
        down = np.where(np.abs(target_down) > np.abs(down), target_down, down)
        right = np.where(np.abs(target_right) > np.abs(right), target_right, right)
    vertical = down[:-1, 1:-1] - down[1:, 1:-1]
    horizontal = right[1:-1, :-1] - right[1:-1, 1:]
    total: Field = vertical + horizontal
    return total


def _boundary(target: Field, region: Mask) -> Field:
    """Return the sum of the given neighbours of each inner pixel, [H - 2, W - 2, C]."""
    given = np.where(region[..., None], 0, target)
    total: Field = given[:-2, 1:-1] + given[2:, 1:-1] + given[1:-1, :-2] + given[1:-1, 2:]
    return total


def _solve_rectangle(right_side: Field, inner: Mask) -> Field:
    """Solve the equation on a full rectangle, [pixels, C]: sine transforms diagonalise the Laplacian.

    At the sizes of patches, a product with the matrix of the transform is faster than a fast transform.
    """
    height, width = inner.shape
    rows, columns = _sine_transform(height), _sine_transform(width)
    eigenvalues = _eigenvalues(height)[:, None] + _eigenvalues(width)
    spectrum = rows @ np.moveaxis(right_side, 2, 0) @ columns / (eigenvalues * ((height + 1) * (width + 1) / 4))
    solution: Field = np.moveaxis(rows @ spectrum @ columns, 0, 2).reshape(inner.size, -1)
    return solution


@lru_cache(maxsize=64)
def _sine_transform(length: int) -> Field:
    """Return the symmetric matrix sin(pi j k / (length + 1)) of the type-I sine transform, [length, length]."""
    order = np.arange(1, length + 1)
    return np.sin(np.pi * np.outer(order, order) / (length + 1))


def _eigenvalues(length: int) -> Field:
    """Return the eigenvalues of the negative second difference with zero boundary, [length]."""
    values: Field = 2 - 2 * np.cos(np.pi * np.arange(1, length + 1) / (length + 1))
    return values


def _solve_sparse(right_side: Field, inner: Mask) -> Field:
    """Solve the equation on the pixels of `inner`, in row order, [pixels, C]."""
    number = np.full(inner.shape, -1)
    count = int(inner.sum())
    number[inner] = np.arange(count)
    below = np.stack([number[:-1].ravel(), number[1:].ravel()])
    beside = np.stack([number[:, :-1].ravel(), number[:, 1:].ravel()])
    first, second = (pairs := np.concatenate([below, beside], axis=1))[:, (pairs >= 0).all(axis=0)]
    diagonal = np.arange(count)
    entries = np.concatenate([np.full(count, 4.0), np.full(2 * len(first), -1.0)])
    places = (np.concatenate([diagonal, first, second]), np.concatenate([diagonal, second, first]))
    matrix = csc_matrix((entries, places), shape=(count, count))
    # Positive definite: no pivoting, and an ordering for symmetric matrices
    factors = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    solution: Field = factors.solve(right_side[inner])
    return solution
