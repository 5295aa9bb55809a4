"""Choosing a few rows that cover many: greedy k-centre selection (PatchCore, CVPR 2022, section 3.2, Algorithm 1).

Which rows are chosen depends on the start, and the published numbers do not use the paper's start. Both are here:

- `exact`: the first pick is the row with the largest L2 norm of distances to all rows;
- `approximate` (all published runs): a row starts at its mean distance to ten rows drawn at random.

From then on both do the same: pick the row farthest from everything picked.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anoframe.errors import AnoframeError
from anoframe.progress import progress

METHODS = ("approximate", "exact")


def coreset_size(rows: int, ratio: float) -> int:
    """`int(ratio * rows)`, as the reference code rounds.

    >>> coreset_size(209 * 784, 0.1)
    16385
    """
    if not 0 < ratio <= 1:
        raise AnoframeError(f"model.coreset.ratio lies in (0, 1], got {ratio}")
    size = int(ratio * rows)
    if size < 1:
        raise AnoframeError(f"model.coreset.ratio {ratio} of {rows} patches leaves nothing: raise it")
    return size


def random_projection(rows: Tensor, dim: int, generator: torch.Generator) -> Tensor:
    """Project `[n, D]` to `[n, dim]` by a dense matrix, uniform in +-1/sqrt(D); unchanged if no wider than that.

    This is the reference code's untrained `nn.Linear`; the paper's text speaks of sparse projections.
    """
    width = rows.shape[1]
    if width <= dim:
        return rows
    weight = (2 * torch.rand(width, dim, generator=generator) - 1) / math.sqrt(width)
    return rows @ weight.to(rows)


def greedy_coreset(
    rows: Tensor,
    size: int,
    method: str = "approximate",
    generator: torch.Generator | None = None,
    start_points: int = 10,
) -> Tensor:
    """Indices of `size` distinct rows, in the order of picking: a prefix is the coreset of that smaller size.

    Each pick reads all rows once: `size * n * d` multiply-adds and as many reads, in `3 n` numbers beyond the rows.

    Args:
        rows: `[n, d]` points, usually projected.
        size: how many to pick, at most `n`.
        method: `"approximate"` or `"exact"` start.
        generator: draws the start rows of `"approximate"`.
        start_points: how many of them.
    """
    if method not in METHODS:
        raise AnoframeError(f"model.coreset.method is one of {', '.join(METHODS)}, got {method!r}")
    if not 1 <= size <= len(rows):
        raise AnoframeError(f"a coreset of {size} cannot be picked from {len(rows)} rows")
    if size == len(rows):
        return torch.arange(size)
    rows = rows - rows.mean(0)  # distances stay, rounding of the |a|^2 + |b|^2 - 2ab form gets smaller
    norms = rows.square().sum(1)
    closest = _exact_start(norms) if method == "exact" else _mean_start(rows, norms, start_points, generator)
    picks = []
    for _ in progress(range(size), "coreset", unit="pick"):
        pick = int(closest.argmax())
        picks.append(pick)
        torch.minimum(closest, _squared_distances(rows, norms, pick), out=closest)
        closest[pick] = -1  # below every distance: never again
    return torch.tensor(picks)


def _squared_distances(rows: Tensor, norms: Tensor, pick: int) -> Tensor:
    return torch.addmv(norms + norms[pick], rows, rows[pick], alpha=-2).clamp_(min=0)  # [n]


def _exact_start(norms: Tensor) -> Tensor:
    """Squared L2 norm of the distances from each row to all: `n |x|^2 + sum |y|^2`, the rows having mean zero."""
    return len(norms) * norms + norms.sum()


def _mean_start(rows: Tensor, norms: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Squared mean distance to `count` random rows; these are not picked by being drawn."""
    starts = torch.randperm(len(rows), generator=generator)[:count].tolist()
    total = torch.zeros_like(norms)
    for start in starts:
        total += _squared_distances(rows, norms, start).sqrt_()
    return (total / len(starts)).square_()
