"""Lower bounds of Euclidean distances, which decide most nearest-neighbour searches at a fraction of their cost.

Each class is called with queries `[q, D]` and a number of candidates, and returns candidates, and a lower bound of the
distance to every other row. A query whose nearest candidate is nearer than that bound needs no further search.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

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
    """Lower bounds of the distances to the rows of one bank."""

    def __call__(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Find the rows with the smallest bounds.

        Args:
            queries: `[q, D]`, relative to the same origin as the rows.
            count: number of candidates, less than the number of rows.

        Returns:
            row indices `[q, count]` in ascending order, and `[q]`, a lower bound of the distance to any other row.
        """


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
        self.rows = self._reduce(rows)
        self.norms = self.rows.square().sum(1)
        self.largest = self.norms.max()

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

    def __call__(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        reduced = self._reduce(queries)
        order = torch.addmm(self.norms, reduced, self.rows.T, alpha=-2)
        smallest = order.topk(count + 1, dim=1, largest=False)  # sorted: the last one is the bound of all others
        norms = reduced.square().sum(1)
        others = smallest.values[:, -1] + norms - _ROUNDING * (norms + self.largest)
        return smallest.indices[:, :-1].sort(dim=1).values, others.clamp(min=0).sqrt()


class Bfloat16Bounds:
    """Bounds from a matrix product in bfloat16, less the largest error that its rounding can have.

    With a rounded to a', b to b' and their product to s: `|ab - s| <= |a - a'||b| + |a'||b - b'| + |a'b' - s|`, where
    the last is at most `2^-9 |a'||b'|`. Memory: half a copy of the bank.
    """

    def __init__(self, rows: Tensor):
        self.rows = rows.bfloat16()
        self.norms = rows.square().sum(1)
        rounded = self.rows.float()
        self.longest = torch.maximum(self.norms.max().sqrt(), rounded.norm(dim=1).max())
        self.largest_error = (rows - rounded).norm(dim=1).max()

    def __call__(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        rounded = queries.bfloat16()
        order = torch.sub(self.norms, rounded @ self.rows.T, alpha=2)  # [q, M] float32
        smallest = order.topk(count + 1, dim=1, largest=False)  # sorted: the last one is the bound of all others
        norms, again = queries.square().sum(1), rounded.float()
        length, error = again.norm(dim=1), (queries - again).norm(dim=1)
        product_error = error * self.longest + length * (self.largest_error + _BFLOAT16 * self.longest)
        rounding = _ROUNDING * (norms + self.longest.square())
        others = smallest.values[:, -1] + norms - 2 * product_error - rounding
        return smallest.indices[:, :-1].sort(dim=1).values, others.clamp(min=0).sqrt()
