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
# Numbers read at every pick, at least: 4 MB of float32, about what a processor's cache holds.
_ACTIVE = 2**20
# Distances computed in one matrix product when bounds are brought up to date: 16 MB of float32.
_PRODUCT = 2**22


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

    A row's distance to the picks only falls, so an old distance bounds the true one from above, and a row whose bound
    is below the largest true distance need not be looked at. The rows of largest bounds are brought up to date by a
    matrix product and searched pick by pick, as long as the best of them beats every bound outside; the picks are those
    of the plain loop. At most `size * n * d` multiply-adds, as in the plain loop, but most of them in matrix products,
    and many never. Memory beyond the rows: one centred copy of them, and a few numbers a row.

    Args:
        rows: `[n, d]` points, usually projected.
        size: how many to pick, at most `n`; all rows come in their own order.
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
    start = _exact_start(norms) if method == "exact" else _mean_start(rows, norms, start_points, generator)
    picker = _Picker(rows, norms, start)
    for _ in progress(range(size), "coreset", unit="pick"):
        picker.pick()
    return torch.tensor(picker.picks)


class _Picker:
    """Picks the row farthest from all picks, again and again."""

    def __init__(self, rows: Tensor, norms: Tensor, start: Tensor):
        self.rows, self.norms = rows, norms
        self.bounds = start  # [n] squared distance to the first `seen` picks
        self.seen = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        self.picks: list[int] = []
        self._activate()

    def pick(self) -> None:
        """Add one row to the picks."""
        best = int(self.closest.argmax())
        while not self.closest[best] > self.floor:
            self._settle()
            self._activate()
            best = int(self.closest.argmax())
        self.picks.append(int(self.active[best]))
        new = _squared_distances(self.active_rows, self.active_norms, self.active_rows[best], self.active_norms[best])
        torch.minimum(self.closest, new, out=self.closest)
        self.closest[best] = -1  # below every distance: never again

    def _activate(self) -> None:
        """Take the rows of largest bounds, up to date; `floor` is the largest bound among the others."""
        count = max(_ACTIVE // self.rows.shape[1], len(self.rows) // 16)
        threshold = self.bounds.topk(min(count, len(self.rows)), sorted=False).values.min()
        inside = self.bounds >= threshold
        outside = self.bounds[~inside]
        self.floor = float(outside.max()) if len(outside) else -math.inf
        self.active = inside.nonzero()[:, 0]
        self._update(self.active)
        self.active_rows, self.active_norms = self.rows[self.active], self.norms[self.active]
        self.closest = self.bounds[self.active]

    def _settle(self) -> None:
        """Keep what the active rows have learned."""
        self.bounds[self.active] = self.closest
        self.seen[self.active] = len(self.picks)

    def _update(self, indices: Tensor) -> None:
        """Bring the bounds of rows up to date with the picks they have not seen."""
        seen = self.seen[indices]
        for known in seen.unique().tolist():
            missed = torch.tensor(self.picks[known:], dtype=torch.int64, device=indices.device)
            if len(missed):
                for part in indices[seen == known].split(max(1, _PRODUCT // len(missed))):
                    new = _squared_distances(self.rows[part], self.norms[part], self.rows[missed], self.norms[missed])
                    self.bounds[part] = torch.minimum(self.bounds[part], new.min(1).values)
        self.seen[indices] = len(self.picks)


def _squared_distances(rows: Tensor, norms: Tensor, others: Tensor, other_norms: Tensor) -> Tensor:
    """`[n, m]` between `[n, d]` and `[m, d]`, or `[n]` to one row `[d]`."""
    if others.ndim == 1:
        return torch.addmv(norms + other_norms, rows, others, alpha=-2).clamp_(min=0)
    return torch.addmm(norms[:, None] + other_norms, rows, others.T, alpha=-2).clamp_(min=0)


def _exact_start(norms: Tensor) -> Tensor:
    """Squared L2 norm of the distances from each row to all: `n |x|^2 + sum |y|^2`, the rows having mean zero."""
    return len(norms) * norms + norms.sum()


def _mean_start(rows: Tensor, norms: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Squared mean distance to `count` random rows; these are not picked by being drawn."""
    starts = torch.randperm(len(rows), generator=generator)[:count].tolist()
    total = torch.zeros_like(norms)
    for start in starts:
        total += _squared_distances(rows, norms, rows[start], norms[start]).sqrt_()
    return (total / len(starts)).square_()
