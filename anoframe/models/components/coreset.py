"""Choosing a few rows that cover many: greedy k-centre selection (PatchCore, CVPR 2022, section 3.2, Algorithm 1).

Which rows are chosen depends on the start, and the published numbers do not use the paper's start. Both are here:

- `exact`: the first pick is the row with the largest L2 norm of distances to all rows;
- `approximate` (all published runs): a row starts at its mean distance to ten rows drawn at random.

From then on both do the same: pick the row farthest from everything picked.
"""

from __future__ import annotations

import math
import mmap
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anoframe.errors import AnoframeError
from anoframe.utils.progress import progress

METHODS = ("approximate", "exact")
# Numbers of the active rows, at least: 4 MB of float32, about what a processor's cache holds.
_ACTIVE = 2**20
# Hot rows: as many as are measured first, and at most, where so many are equally far to seven digits.
_HOT, _HOTTEST = 256, 2048
# Rows, and picks, in one product when bounds are brought up to date: 4 MB of float32.
_TOGETHER = 1024
# The same for exact distances: few, because hot rows know of very different numbers of picks.
_MEASURED = 64
# Numbers read at a time where all rows are: 16 MB of float32.
_BLOCK = 2**22
Rows = Tensor | np.ndarray  # [n, d]; an array may lie in a memory map


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


def random_projection(rows: Rows, dim: int, generator: torch.Generator) -> Rows:
    """Project `[n, D]` to `[n, dim]` by a dense matrix, uniform in +-1/sqrt(D); unchanged if no wider than that.

    This is the reference code's untrained `nn.Linear`; the paper's text speaks of sparse projections. A block of rows
    at a time, so that those of a memory map need not be in memory together.
    """
    width = rows.shape[1]
    if width <= dim:
        return rows
    weight = (2 * torch.rand(width, dim, generator=generator) - 1) / math.sqrt(width)
    return torch.cat([block @ weight.to(block) for block in _blocks(rows)])


def greedy_coreset(
    rows: Rows,
    size: int,
    method: str = "approximate",
    generator: torch.Generator | None = None,
    start_points: int = 10,
) -> Tensor:
    """Indices of `size` distinct rows, in the order of picking: a prefix is the coreset of that smaller size.

    The picks are those of the plain loop in float64, of equal distances (to 1e-12 of the largest squared norm) the
    earlier row; they depend on no thread count, block size or device. The one exception: where more than 2048 rows are
    equally far to seven digits, the farthest of 2048 of them is picked.

    Cost: at most `size * n * d` multiply-adds in float32 and matrix products, as in the plain loop's matrix-vector
    ones, but most are never made (of clustered rows, 20,000 x 128 and 10 %: a half; 204,800 x 152 and 1 %: four
    fifths). Memory beside the rows: 24 bytes a row, the picks (12 bytes a number), and a sixteenth of the rows or 4 MB.

    Args:
        rows: `[n, d]` finite points, usually projected.
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
    centred = _Centred(rows)
    if method == "exact":
        start: _Start = _NormOfDistances(centred)
    else:
        start = _MeanDistance(centred, torch.randperm(len(rows), generator=generator)[:start_points])
    picks = _Greedy(centred, size, start).picks()
    return torch.tensor(list(progress(picks, "coreset", unit="pick", total=size)))


def selection_cost(rows: int, width: int, size: int) -> tuple[int, float]:
    """What `greedy_coreset` takes at most, beside the rows: bytes, and seconds on this machine's processor.

    The seconds are those of all products, at the speed that one is measured at now; most are never made.
    """
    active = min(rows, max(_ACTIVE // width, rows // 16))
    memory = 24 * rows + 12 * size * width + 12 * active * width
    block = torch.ones(_TOGETHER, width)
    block @ block.T  # wakes the threads
    started = time.perf_counter()
    block @ block.T
    return memory, (time.perf_counter() - started) * rows * size / _TOGETHER**2


# ------------------------------------------------------------------------------------------------ rows and starts


class _Centred:
    """Rows around their mean, taken when asked for: distances stay, and |a|^2 + |b|^2 - 2ab rounds less."""

    def __init__(self, rows: Rows):
        self.rows, self.length, self.width = rows, rows.shape[0], rows.shape[1]
        sums = [block.sum(0, dtype=torch.float64) for block in _blocks(rows)]
        self.centre = torch.stack(sums).sum(0) / self.length
        self.device = self.centre.device

    def take(self, indices: Tensor) -> Tensor:
        """`[k, d]` in float64."""
        return self._chosen(indices).double() - self.centre

    def take_float32(self, indices: Tensor) -> Tensor:
        """`[k, d]`, around the mean as the rows' own type has it."""
        chosen = self._chosen(indices)
        return (chosen - self.centre.to(chosen.dtype)).float()

    def _chosen(self, indices: Tensor) -> Tensor:
        if isinstance(self.rows, Tensor):
            return self.rows[indices]
        chosen = np.empty((len(indices), self.width), self.rows.dtype)
        for start in range(0, len(indices), _TOGETHER):  # each row read brings in pages around it
            part = slice(start, start + _TOGETHER)
            chosen[part] = self.rows[indices[part].numpy()]
            _forget(self.rows)
        return torch.from_numpy(chosen)

    def blocks(self) -> Iterator[Tensor]:
        """All of them in float64, a block at a time."""
        for block in _blocks(self.rows):
            yield block.double() - self.centre


def _blocks(rows: Rows) -> Iterator[Tensor]:
    """Up to 16 MB of float32 at a time."""
    count = max(1, _BLOCK // rows.shape[1])
    for start in range(0, len(rows), count):
        block = rows[start : start + count]
        # An array is copied: a memory map may be read-only, which torch does not know
        yield block if isinstance(block, Tensor) else torch.from_numpy(np.array(block))
        _forget(rows)


def _forget(rows: Rows) -> None:
    """Let go of the pages of a memory map that were read, or the whole of it would count as memory in use."""
    mapped = getattr(rows, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


class _Start(Protocol):
    """What a row starts at, before anything is picked."""

    def __call__(self, rows: Tensor) -> Tensor:
        """Squared, `[k, d] -> [k]`, for centred rows in float64."""


class _MeanDistance:
    """The mean distance to a few rows; these are not picked by being drawn."""

    def __init__(self, rows: _Centred, drawn: Tensor):
        self.drawn = rows.take(drawn.to(rows.device))

    def __call__(self, rows: Tensor) -> Tensor:
        # Differences and not a product: the root of what a product leaves of zero is not small
        return torch.cdist(rows, self.drawn, compute_mode="donot_use_mm_for_euclid_dist").mean(1).square()


class _NormOfDistances:
    """The L2 norm of the distances to all rows: `n |x|^2 + sum |y|^2` is its square, the rows having mean zero."""

    def __init__(self, rows: _Centred):
        self.length = rows.length
        self.total = sum(block.square().sum() for block in rows.blocks())

    def __call__(self, rows: Tensor) -> Tensor:
        return self.length * rows.square().sum(1) + self.total


# ------------------------------------------------------------------------------------------------ the selection


class _Greedy:
    """Picks the row farthest from all picks, again and again, and looks at as few rows as it can.

    A row's distance to the picks only falls, so an old one bounds the true one from above, and a row whose bound is
    below the largest true distance need not be looked at. Three circles of rows:

    - all: an upper bound of the squared distance, and how many picks it knows of;
    - active, those with the largest bounds: bounds know every pick, by matrix products in float32, widened by what
      these may round away;
    - hot, the largest of these: the distance itself, and between each other, in float64. Among them the plain loop runs
      on numbers already computed, for as long as its best beats every bound outside.
    """

    def __init__(self, rows: _Centred, size: int, start: _Start):
        self.rows, self.size = rows, size
        # Rounding of a product over d float32 numbers: its random walk, with room to spare
        self.widened = 1 + (4 + math.sqrt(rows.width)) * 2**-23
        number = partial(torch.empty, rows.length, device=rows.device)
        self.norms, self.bounds, self.exact = number(), number(), number(dtype=torch.float64)
        at = 0
        for block in rows.blocks():
            part = slice(at, at := at + len(block))
            self.norms[part] = block.square().sum(1) * self.widened
            self.exact[part] = start(block)
        self.bounds.copy_(_above(self.exact))
        self.tie = 1e-12 * float(self.norms.max())
        self.known = torch.zeros(rows.length, dtype=torch.int32, device=rows.device)  # picks that a bound knows of
        self.measured = torch.zeros_like(self.known)  # picks that an exact distance knows of
        self.picked: list[int] = []
        shape = (size, rows.width)
        self.pick_rows = torch.empty(shape, dtype=torch.float64, device=rows.device)
        self.pick_rows32 = torch.empty(shape, device=rows.device)

    def picks(self) -> Iterator[int]:
        """Rows in the order of picking."""
        while len(self.picked) < self.size:
            self._activate()
            while len(self.picked) < self.size and (found := self._round()):
                yield from found

    def _activate(self) -> None:
        """Take the rows of largest bounds, and bring these up to date."""
        count = min(max(_ACTIVE // self.rows.width, self.rows.length // 16), self.rows.length)
        self.active = self.bounds.topk(count, sorted=False).indices.sort().values
        self.outside = _largest_but(self.bounds, self.active)
        stale = self.active[self.known[self.active] < len(self.picked)]
        # Nothing to bring up to date, and rows outside are as far to seven digits: then they tie
        self.tied = len(stale) == 0
        self._update(stale)
        self.active_rows = self.rows.take_float32(self.active)
        self.active_norms, self.active_bounds = self.norms[self.active], self.bounds[self.active]

    def _update(self, indices: Tensor) -> None:
        """Bring bounds up to date with the picks they do not know, rows that know equally many together."""
        known, order = self.known[indices].sort()
        for start in range(0, len(indices), _TOGETHER):
            rows, first = indices[order[start : start + _TOGETHER]], int(known[start])
            new = self._bounds_to_picks(self.rows.take_float32(rows), self.norms[rows], first)
            self.bounds[rows] = torch.minimum(self.bounds[rows], new)
        self.known[indices] = len(self.picked)

    def _bounds_to_picks(self, rows: Tensor, norms: Tensor, first: int) -> Tensor:
        """At least the smallest squared distance of each row to the picks from `first` on."""
        nearest = torch.full_like(norms, math.inf)
        for start in range(first, len(self.picked), _TOGETHER):
            picks = self.pick_rows32[start : min(start + _TOGETHER, len(self.picked))]
            part = torch.addmm(picks.square().sum(1) * self.widened, rows, picks.T, alpha=-2)
            nearest = torch.minimum(nearest, part.amin(1))
        return (nearest + norms).clamp(min=0)

    def _round(self) -> list[int]:
        """Pick from the hot rows as long as it is certain; nothing where a row that is not active may be farther."""
        width = _HOT
        while True:
            hot = self.active_bounds.topk(min(width, len(self.active)), sorted=False).indices.sort().values
            indices = self.active[hot]
            rows, distances = self._measure(indices)
            best = float(distances.max())
            if best < self.outside and not self.tied:
                self.bounds[self.active] = self.active_bounds
                return []
            others = _largest_but(self.active_bounds, hot)
            if best >= others or width >= _HOTTEST:
                break
            width *= 4
        norms = rows.square().sum(1)
        between = _squared_distances(rows, norms, rows, norms).cpu().numpy()
        chosen, left = self._pick(distances.cpu().numpy(), between, min(max(others, self.outside), best))
        self.tied = False
        self._record(indices, hot, rows, chosen, torch.from_numpy(left).to(rows.device))
        return self.picked[-len(chosen) :]

    def _pick(self, distances: NDArray[Any], between: NDArray[Any], floor: float) -> tuple[list[int], NDArray[Any]]:
        """The plain loop among a few rows, down to `floor`; picks, and the squared distances it leaves (picks: -1)."""
        chosen: list[int] = []
        while len(self.picked) + len(chosen) < self.size and (best := distances.max()) >= floor:
            farthest = int((distances >= best - self.tie).argmax())  # the first of equals
            chosen.append(farthest)
            np.minimum(distances, between[farthest], out=distances)
            distances[farthest] = -1
        return chosen, distances

    def _measure(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Rows in float64, and their exact squared distances to start and picks."""
        rows = self.rows.take(indices)
        norms = rows.square().sum(1)
        distances = self.exact[indices]
        known, order = self.measured[indices].sort()
        for start in range(0, len(indices), _MEASURED):
            part = order[start : start + _MEASURED]
            picks = self.pick_rows[int(known[start]) : len(self.picked)]
            if len(picks):
                new = _squared_distances(rows[part], norms[part], picks, picks.square().sum(1)).amin(1)
                distances[part] = torch.minimum(distances[part], new)
        self.exact[indices], self.measured[indices] = distances, len(self.picked)
        return rows, distances

    def _record(self, indices: Tensor, hot: Tensor, rows: Tensor, chosen: list[int], distances: Tensor) -> None:
        """Take note of picks, and of what the active rows learn from them."""
        first, last = len(self.picked), len(self.picked) + len(chosen)
        self.picked += indices[chosen].tolist()
        self.pick_rows[first:last] = rows[chosen]
        self.pick_rows32[first:last] = rows[chosen]
        self.exact[indices], self.measured[indices] = distances, last
        new = self._bounds_to_picks(self.active_rows, self.active_norms, first)
        self.active_bounds = torch.minimum(self.active_bounds, new)
        self.active_bounds[hot] = _above(distances)
        self.known[self.active] = last
        self.bounds[self.active] = self.active_bounds


def _squared_distances(rows: Tensor, norms: Tensor, others: Tensor, other_norms: Tensor) -> Tensor:
    """`[k, m]` between `[k, d]` and `[m, d]`."""
    return torch.addmm(other_norms, rows, others.T, alpha=-2).add_(norms[:, None]).clamp_(min=0)


def _above(values: Tensor) -> Tensor:
    """float32 numbers that are not below; -1, the mark of a pick, stays negative."""
    return (values * (1 + 2**-20)).float()


def _largest_but(values: Tensor, indices: Tensor) -> float:
    """The largest of the values that are not at `indices`; minus infinity where there is none."""
    others = values.clone()
    others[indices] = -math.inf
    return float(others.max())
