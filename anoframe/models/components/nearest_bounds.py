"""Lower bounds of Euclidean distances, which decide most nearest-neighbour searches at a fraction of their cost.

A query whose nearest candidate is nearer than the bound of all other rows needs no further search.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from anoframe.models.components.smallest_columns import pad_bank

# Number of rows from which axes pay for their computation (half a second for 1024 dimensions) and undecided queries.
_LARGE_BANK = 4096
# Share of the variance that the axes may leave out. For patch features (EfficientNet-Lite0) a quarter of the axes is
# enough, and one query in fifty (screws) to one in three (bottles) stays undecided.
_LEFT_OUT = 0.05
# Rounding error of |a|^2 + |b|^2 - 2ab in float32, as a share of |a|^2 + |b|^2, with a margin.
_ROUNDING = 1e-5
# Largest relative rounding error of one bfloat16 number, which has 8 significant bits.
_BFLOAT16 = 2.0**-9


class Bounds(Protocol):
    """Lower bounds of the distances to the rows of one bank. Queries are relative to the same origin as the rows."""

    def scores(self, queries: Tensor) -> Tensor:
        """Return scores `[q, M]`: the lower the score of a row, the lower the bound of its distance.

        `M` includes the rows that `pad_bank` adds.
        """

    def distances(self, queries: Tensor, scores: Tensor) -> Tensor:
        """Return `[q]`, a lower bound of the distance to any row whose score is at least `scores`, `[q]`."""


def build_bounds(rows: Tensor) -> list[Bounds]:
    """Build the bounds that pay for a bank, in the order in which they are to be tried.

    Args:
        rows: `[M, D]`, with the mean near the origin.
    """
    along_axes = AxisBounds.build(rows)
    bounds: list[Bounds] = [] if along_axes is None else [along_axes]
    if rows.dtype == torch.float32 and rows.device.type == "cpu" and multiplies_bfloat16():
        bounds.append(Bfloat16Bounds(rows))
    return bounds


def multiplies_bfloat16() -> bool:
    """Return whether this processor multiplies bfloat16 faster than float32."""
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check is not None and bool(check()) for check in checks)


class AxisBounds:
    """Bounds from the main axes of the bank and the lengths of the residuals.

    With `P` the projection onto the axes and `R` the residual, `|a - b|^2 = |Pa - Pb|^2 + |Ra - Rb|^2`, which is at
    least `|Pa - Pb|^2 + (|Ra| - |Rb|)^2`: the distance between vectors with one dimension more than there are axes.
    """

    def __init__(self, rows: Tensor, axes: Tensor):
        self.axes = axes  # [D, r], orthonormal
        reduced = self._reduce(rows)
        norms = reduced.square().sum(1)
        self.largest = norms.max()
        self.rows, self.norms = pad_bank(reduced, norms)

    @classmethod
    def build(cls, rows: Tensor) -> AxisBounds | None:
        """Return None if the bank is small, or if its variance needs so many axes that bounds would save nothing."""
        count, width = rows.shape
        if count < _LARGE_BANK:
            return None
        subset = rows[:: -(-count // max(4096, 4 * width))]  # bounds hold for any axes, so a subset of rows is enough
        variance, axes = torch.linalg.eigh((subset.T @ subset).double())  # ascending
        left_out = variance.clamp(min=0).cumsum(0) / variance.sum()
        needed = -(-int((left_out > _LEFT_OUT).sum()) // 32) * 32
        return cls(rows, axes[:, -needed:].to(rows.dtype)) if needed <= width // 3 else None

    def _reduce(self, rows: Tensor) -> Tensor:
        """Reduce `[n, D]` to `[n, r + 1]`: the projections, and the length of the residual."""
        along = rows @ self.axes
        residual = (rows.square().sum(1) - along.square().sum(1)).clamp(min=0).sqrt()
        return torch.cat([along, residual[:, None]], dim=1)

    def scores(self, queries: Tensor) -> Tensor:
        return torch.addmm(self.norms, self._reduce(queries), self.rows.T, alpha=-2)

    def distances(self, queries: Tensor, scores: Tensor) -> Tensor:
        norms = queries.square().sum(1)  # that of the reduced queries but for rounding
        return (scores + norms - _ROUNDING * (norms + self.largest)).clamp(min=0).sqrt()


class Bfloat16Bounds:
    """Bounds from a matrix product in bfloat16, less the largest error that its rounding can have.

    With a rounded to a', b to b' and their product to s: `|ab - s| <= |a - a'||b| + |a'||b - b'| + |a'b' - s|`, where
    the last is at most `2^-9 |a'||b'|`. Memory: half a copy of the bank.
    """

    def __init__(self, rows: Tensor):
        norms, rounded = rows.square().sum(1), rows.bfloat16().float()
        self.longest = torch.maximum(norms.max().sqrt(), rounded.norm(dim=1).max())
        self.largest_error = (rows - rounded).norm(dim=1).max()
        padded, self.norms = pad_bank(rows, norms)
        self.rows = padded.bfloat16()

    def scores(self, queries: Tensor) -> Tensor:
        return torch.sub(self.norms, queries.bfloat16() @ self.rows.T, alpha=2)  # float32

    def distances(self, queries: Tensor, scores: Tensor) -> Tensor:
        norms, rounded = queries.square().sum(1), queries.bfloat16().float()
        length, error = rounded.norm(dim=1), (queries - rounded).norm(dim=1)
        product_error = error * self.longest + length * (self.largest_error + _BFLOAT16 * self.longest)
        rounding = _ROUNDING * (norms + self.longest.square())
        return (scores + norms - 2 * product_error - rounding).clamp(min=0).sqrt()
