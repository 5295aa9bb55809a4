"""Coreset selection by greedy k-centre (PatchCore, CVPR 2022, section 3.2, Algorithm 1).

The selected rows depend on the start, and the published numbers do not use the paper's start. Both are implemented:

- `exact`: the first pick is the row with the largest L2 norm of its distances to all rows;
- `approximate` (all published runs): each row starts with its mean distance to ten random rows.

After the start both repeat the same step: pick the row that is farthest from all picks.
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
# Minimum number of values in the active rows: 4 MB of float32, about the size of a processor's cache.
_ACTIVE = 2**20
# Number of hot rows that are measured first, and the maximum if many rows are equally far to seven digits.
_HOT, _HOT_MAX = 256, 2048
# Rows, and picks, per matrix product when bounds are updated: 4 MB of float32.
_UPDATE_CHUNK = 1024
# The same for exact distances; smaller, because hot rows differ in the number of picks that their distances include.
_MEASURE_CHUNK = 64
# Values per block when all rows are read: 16 MB of float32.
_BLOCK = 2**22
Rows = Tensor | np.ndarray  # [n, d]; an array may be a memory map


def coreset_size(rows: int, ratio: float) -> int:
    """Compute `int(ratio * rows)`, the rounding of the reference code.

    >>> coreset_size(209 * 784, 0.1)
    16385
    """
    if not 0 < ratio <= 1:
        raise AnoframeError(f"model.coreset.ratio lies in (0, 1], got {ratio}")
    size = int(ratio * rows)
    if size < 1:
        raise AnoframeError(f"model.coreset.ratio {ratio} of {rows} patches leaves an empty bank: raise it")
    return size


def random_projection(rows: Rows, dim: int, generator: torch.Generator) -> Rows:
    """Project `[n, D]` to `[n, dim]` with a dense random matrix, uniform in +-1/sqrt(D); unchanged if `D <= dim`.

    This is the untrained `nn.Linear` of the reference code; the paper's text describes sparse projections. Rows are
    projected block by block, so a memory map is never in memory as a whole.
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
    """Select a greedy k-centre coreset.

    The picks are those of the plain loop in float64; among equal distances (to 1e-12 of the largest squared norm) the
    earlier row is picked. They do not depend on the number of threads, the block size or the device. One exception: if
    more than 2048 rows are equally far to seven digits, the farthest of 2048 of them is picked.

    Cost: at most `size * n * d` multiply-adds, in float32 matrix products where the plain loop has matrix-vector
    products. Most are skipped (clustered rows, 20,000 x 128 and 10 %: a half; 204,800 x 152 and 1 %: four fifths).
    Memory besides the rows: 24 bytes per row, 12 bytes per value of the picks, and a sixteenth of the rows or 4 MB.

    Args:
        rows: `[n, d]` finite points, usually projected.
        size: number of picks, at most `n`; with `size = n` all rows are returned in their own order.
        method: start, `"approximate"` or `"exact"`.
        generator: random generator for the start rows of `"approximate"`.
        start_points: number of start rows of `"approximate"`.

    Returns:
        Indices `[size]` of distinct rows in the order of picking: a prefix is the coreset of that smaller size.
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
    """Estimate upper bounds of the cost of `greedy_coreset`: bytes besides the rows, and seconds on this processor.

    The time is that of all products, extrapolated from one product measured now; most products are skipped.
    """
    active = min(rows, max(_ACTIVE // width, rows // 16))
    memory = 24 * rows + 12 * size * width + 12 * active * width
    block = torch.ones(_UPDATE_CHUNK, width)
    block @ block.T  # starts the threads
    started = time.perf_counter()
    block @ block.T
    return memory, (time.perf_counter() - started) * rows * size / _UPDATE_CHUNK**2


# ------------------------------------------------------------------------------------------------ rows and starts


class _Centred:
    """Rows minus their mean, computed on access: distances stay the same, and |a|^2 + |b|^2 - 2ab rounds less."""

    def __init__(self, rows: Rows):
        self.rows, self.length, self.width = rows, rows.shape[0], rows.shape[1]
        sums = [block.sum(0, dtype=torch.float64) for block in _blocks(rows)]
        self.centre = torch.stack(sums).sum(0) / self.length
        self.device = self.centre.device

    def take(self, indices: Tensor) -> Tensor:
        """Return rows `[k, d]` in float64."""
        return self._gather(indices).double() - self.centre

    def take_float32(self, indices: Tensor) -> Tensor:
        """Return rows `[k, d]` in float32, with the mean rounded to the type of the rows."""
        rows = self._gather(indices)
        return (rows - self.centre.to(rows.dtype)).float()

    def _gather(self, indices: Tensor) -> Tensor:
        if isinstance(self.rows, Tensor):
            return self.rows[indices]
        gathered = np.empty((len(indices), self.width), self.rows.dtype)
        for start in range(0, len(indices), _UPDATE_CHUNK):  # reading a row also loads the pages around it
            chunk = slice(start, start + _UPDATE_CHUNK)
            gathered[chunk] = self.rows[indices[chunk].numpy()]
            _release_pages(self.rows)
        return torch.from_numpy(gathered)

    def blocks(self) -> Iterator[Tensor]:
        """Iterate over all rows in float64, block by block."""
        for block in _blocks(self.rows):
            yield block.double() - self.centre


def _blocks(rows: Rows) -> Iterator[Tensor]:
    """Iterate over rows in blocks of up to 16 MB of float32."""
    count = max(1, _BLOCK // rows.shape[1])
    for start in range(0, len(rows), count):
        block = rows[start : start + count]
        # An array is copied: a memory map may be read-only, and torch cannot represent that
        yield block if isinstance(block, Tensor) else torch.from_numpy(np.array(block))
        _release_pages(rows)


def _release_pages(rows: Rows) -> None:
    """Release the pages of a memory map that were read; otherwise the whole map would count as memory in use."""
    mapped = getattr(rows, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


class _Start(Protocol):
    """Initial distance of a row, before the first pick."""

    def __call__(self, rows: Tensor) -> Tensor:
        """Squared initial distances, `[k, d]` to `[k]`, for centred rows in float64."""


class _MeanDistance:
    """Mean distance to a few random rows; drawing a row does not pick it."""

    def __init__(self, rows: _Centred, drawn: Tensor):
        self.drawn = rows.take(drawn.to(rows.device))

    def __call__(self, rows: Tensor) -> Tensor:
        # Differences, not a product: where a distance is zero, the root of a product's rounding error is not small
        return torch.cdist(rows, self.drawn, compute_mode="donot_use_mm_for_euclid_dist").mean(1).square()


class _NormOfDistances:
    """L2 norm of the distances to all rows; its square is `n |x|^2 + sum |y|^2`, because the rows have mean zero."""

    def __init__(self, rows: _Centred):
        self.length = rows.length
        self.total = sum(block.square().sum() for block in rows.blocks())

    def __call__(self, rows: Tensor) -> Tensor:
        return self.length * rows.square().sum(1) + self.total


# ------------------------------------------------------------------------------------------------ selection


class _Greedy:
    """Repeatedly pick the row farthest from all picks, and compute as few distances as possible.

    A row's distance to the picks can only decrease, so an old distance is an upper bound of the true one, and a row
    whose bound is below the largest true distance can be skipped. There are three nested sets of rows:

    - all: an upper bound of the squared distance, and the number of picks that it includes;
    - active, the rows with the largest bounds: bounds include every pick, computed by float32 matrix products and
      enlarged by their maximum rounding error;
    - hot, the active rows with the largest bounds: exact distances to the picks and to one another, in float64. The
      plain loop runs on these precomputed values while its best row beats every bound outside the set.
    """

    def __init__(self, rows: _Centred, size: int, start: _Start):
        self.rows, self.size = rows, size
        # Rounding error of a product over d float32 values: a random walk, with a margin
        self.margin = 1 + (4 + math.sqrt(rows.width)) * 2**-23
        per_row = partial(torch.empty, rows.length, device=rows.device)
        self.norms, self.bounds, self.exact = per_row(), per_row(), per_row(dtype=torch.float64)
        position = 0
        for block in rows.blocks():
            chunk = slice(position, position := position + len(block))
            self.norms[chunk] = block.square().sum(1) * self.margin
            self.exact[chunk] = start(block)
        self.bounds.copy_(_round_up(self.exact))
        self.tie = 1e-12 * float(self.norms.max())
        # Number of picks that a bound, and that an exact distance, includes
        self.bound_picks = torch.zeros(rows.length, dtype=torch.int32, device=rows.device)
        self.exact_picks = torch.zeros_like(self.bound_picks)
        self.picked: list[int] = []
        shape = (size, rows.width)
        self.pick_rows = torch.empty(shape, dtype=torch.float64, device=rows.device)
        self.pick_rows32 = torch.empty(shape, device=rows.device)

    def picks(self) -> Iterator[int]:
        """Yield rows in the order of picking."""
        while len(self.picked) < self.size:
            self._activate()
            while len(self.picked) < self.size and (new_picks := self._round()):
                yield from new_picks

    def _activate(self) -> None:
        """Make the rows with the largest bounds active, and update their bounds."""
        count = min(max(_ACTIVE // self.rows.width, self.rows.length // 16), self.rows.length)
        self.active = self.bounds.topk(count, sorted=False).indices.sort().values
        self.outside = _max_excluding(self.bounds, self.active)
        stale = self.active[self.bound_picks[self.active] < len(self.picked)]
        # No bound to update, yet rows outside are as far to seven digits: treat them as tied
        self.tied = len(stale) == 0
        self._update(stale)
        self.active_rows = self.rows.take_float32(self.active)
        self.active_norms, self.active_bounds = self.norms[self.active], self.bounds[self.active]

    def _update(self, indices: Tensor) -> None:
        """Include all picks in the bounds; rows whose bounds include equally many picks are updated together."""
        included, order = self.bound_picks[indices].sort()
        for start in range(0, len(indices), _UPDATE_CHUNK):
            rows, first = indices[order[start : start + _UPDATE_CHUNK]], int(included[start])
            new = self._bounds_to_picks(self.rows.take_float32(rows), self.norms[rows], first)
            self.bounds[rows] = torch.minimum(self.bounds[rows], new)
        self.bound_picks[indices] = len(self.picked)

    def _bounds_to_picks(self, rows: Tensor, norms: Tensor, first: int) -> Tensor:
        """Upper bounds of each row's smallest squared distance to the picks from number `first` on."""
        smallest = torch.full_like(norms, math.inf)
        for start in range(first, len(self.picked), _UPDATE_CHUNK):
            picks = self.pick_rows32[start : min(start + _UPDATE_CHUNK, len(self.picked))]
            products = torch.addmm(picks.square().sum(1) * self.margin, rows, picks.T, alpha=-2)
            smallest = torch.minimum(smallest, products.amin(1))
        return (smallest + norms).clamp(min=0)

    def _round(self) -> list[int]:
        """Pick from the hot rows while the choice is certain; empty if a row that is not active may be farther."""
        width = _HOT
        while True:
            hot = self.active_bounds.topk(min(width, len(self.active)), sorted=False).indices.sort().values
            indices = self.active[hot]
            rows, distances = self._measure(indices)
            best = float(distances.max())
            if best < self.outside and not self.tied:
                self.bounds[self.active] = self.active_bounds
                return []
            not_hot = _max_excluding(self.active_bounds, hot)
            if best >= not_hot or width >= _HOT_MAX:
                break
            width *= 4
        norms = rows.square().sum(1)
        between = _squared_distances(rows, norms, rows, norms).cpu().numpy()
        picks, remaining = self._pick(distances.cpu().numpy(), between, min(max(not_hot, self.outside), best))
        self.tied = False
        self._record(indices, hot, rows, picks, torch.from_numpy(remaining).to(rows.device))
        return self.picked[-len(picks) :]

    def _pick(self, distances: NDArray[Any], between: NDArray[Any], floor: float) -> tuple[list[int], NDArray[Any]]:
        """Run the plain loop on a few rows while the largest squared distance is at least `floor`.

        Returns:
            picks, and the squared distances afterwards (-1 for picks).
        """
        picks: list[int] = []
        while len(self.picked) + len(picks) < self.size and (best := distances.max()) >= floor:
            farthest = int((distances >= best - self.tie).argmax())  # the first among equals
            picks.append(farthest)
            np.minimum(distances, between[farthest], out=distances)
            distances[farthest] = -1
        return picks, distances

    def _measure(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows in float64, and their exact squared distances to start and picks."""
        rows = self.rows.take(indices)
        norms = rows.square().sum(1)
        distances = self.exact[indices]
        included, order = self.exact_picks[indices].sort()
        for start in range(0, len(indices), _MEASURE_CHUNK):
            chunk = order[start : start + _MEASURE_CHUNK]
            picks = self.pick_rows[int(included[start]) : len(self.picked)]
            if len(picks):
                new = _squared_distances(rows[chunk], norms[chunk], picks, picks.square().sum(1)).amin(1)
                distances[chunk] = torch.minimum(distances[chunk], new)
        self.exact[indices], self.exact_picks[indices] = distances, len(self.picked)
        return rows, distances

    def _record(self, indices: Tensor, hot: Tensor, rows: Tensor, picks: list[int], distances: Tensor) -> None:
        """Store new picks, and include them in the distances and bounds of the active rows."""
        first, last = len(self.picked), len(self.picked) + len(picks)
        self.picked += indices[picks].tolist()
        self.pick_rows[first:last] = rows[picks]
        self.pick_rows32[first:last] = rows[picks]
        self.exact[indices], self.exact_picks[indices] = distances, last
        new = self._bounds_to_picks(self.active_rows, self.active_norms, first)
        self.active_bounds = torch.minimum(self.active_bounds, new)
        self.active_bounds[hot] = _round_up(distances)
        self.bound_picks[self.active] = last
        self.bounds[self.active] = self.active_bounds


def _squared_distances(rows: Tensor, norms: Tensor, others: Tensor, other_norms: Tensor) -> Tensor:
    """Squared distances `[k, m]` between `[k, d]` and `[m, d]`."""
    return torch.addmm(other_norms, rows, others.T, alpha=-2).add_(norms[:, None]).clamp_(min=0)


def _round_up(values: Tensor) -> Tensor:
    """Convert to float32 without getting smaller; -1, the mark of a pick, stays negative."""
    return (values * (1 + 2**-20)).float()


def _max_excluding(values: Tensor, indices: Tensor) -> float:
    """Largest value that is not at `indices`; minus infinity if there is none."""
    others = values.clone()
    others[indices] = -math.inf
    return float(others.max())
