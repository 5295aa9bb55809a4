"""Exact nearest-neighbour search in Euclidean distance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anoframe.errors import AnoframeError

ENGINES = ("torch", "faiss")
# Extra candidates that the fast distance formula passes on to the exact one, so that its rounding loses no neighbour.
SPARE = 7
# Columns per block; the smallest value of each block is computed first.
_BLOCK = 64
# Number of rows from which bounds pay for their axes (half a second for 1024 dimensions) and for undecided queries.
_LARGE_BANK = 4096
# Share of the variance that the axes may leave out. For patch features (EfficientNet-Lite0) a quarter of the axes is
# enough, and one query in fifty (screws) to one in three (bottles) stays undecided.
_LEFT_OUT = 0.05
# Share of undecided queries from which bounds are switched off.
_TOO_MANY = 0.6
# Rounding error of |a|^2 + |b|^2 - 2ab in float32, as a share of |a|^2 + |b|^2, with a margin.
_ROUNDING = 1e-5
# Bank values gathered at a time when candidates are measured exactly: 2 MB of float32 stay in the cache.
_GATHERED = 2**19


class Search:
    """Nearest-neighbour search in one bank. What depends only on the bank is computed once; threads may share it.

    Candidates come from `|a|^2 + |b|^2 - 2ab` (one matrix product) and are measured again as `|a - b|`. So returned
    distances are those of the difference: a bank row has distance exactly 0 to itself, and the result of a query does
    not depend on the other queries. Products of reduced precision (TF32, if enabled) may add candidates but do not
    change distances.

    If most of a large bank's variance lies along few axes, lower bounds along these axes are computed first, and only
    queries that they leave undecided are searched in all dimensions: the same result, several times faster.

    Memory besides the bank: one copy of it, or one and a third, and `chunk * M` values per call.

    Args:
        bank: `[M, D]`.
        engine: engine that finds the candidates: `"torch"`, or `"faiss"` (its flat index, on the CPU).
    """

    def __init__(self, bank: Tensor, engine: str = "torch"):
        if engine not in ENGINES:
            raise AnoframeError(f"model.search is one of {', '.join(ENGINES)}, got {engine!r}")
        self.bank = bank
        # Subtract the mean: far from the origin, differences between rows would be lost in rounding
        self._centre = bank.mean(0)
        rows = bank - self._centre
        self._find = _Product(rows) if engine == "torch" else _Faiss(rows)
        self._bounds = _Bounds.build(rows) if engine == "torch" else None

    def nearest(self, queries: Tensor, k: int = 1, chunk: int = 1024) -> tuple[Tensor, Tensor]:
        """Find the `k` nearest rows of each query, nearest first; among equally near rows the earlier one.

        Args:
            queries: `[Q, D]`.
            k: number of neighbours, at most `M` are returned.
            chunk: number of queries processed at a time.

        Returns:
            distances `[Q, k]` and indices into the bank `[Q, k]`.
        """
        k = min(k, len(self.bank))
        chunks = [self._nearest_by_bounds(part, k) for part in queries.split(chunk)]
        return torch.cat([distances for distances, _ in chunks]), torch.cat([indices for _, indices in chunks])

    def _nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        candidates = self.near(queries, k + SPARE)
        exact = exact_distances(queries, self.bank, candidates)
        distances, order = exact.sort(dim=1, stable=True)
        return distances[:, :k], candidates.gather(1, order[:, :k])

    def _nearest_by_bounds(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        bounds = self._bounds
        if bounds is None:
            return self._nearest(queries, k)
        candidates, bound_of_others = bounds(queries - self._centre, k + SPARE)
        distances, order = exact_distances(queries, self.bank, candidates).sort(dim=1, stable=True)
        distances, indices = distances[:, :k], candidates.gather(1, order[:, :k])
        undecided = (distances[:, -1] >= bound_of_others).nonzero()[:, 0]
        if len(undecided):
            distances[undecided], indices[undecided] = self._nearest(queries[undecided], k)
        if len(undecided) > _TOO_MANY * len(queries):
            self._bounds = None  # they cost more than they save, and later queries will be similar
        return distances, indices

    def near(self, queries: Tensor, count: int, chunk: int = 1024) -> Tensor:
        """Find roughly the `count` nearest rows of each query, without the exact distances of `nearest`.

        Returns:
            Indices `[Q, count]` in ascending order; `count` is at most the size of the bank.
        """
        count = min(count, len(self.bank))
        candidates = [self._find(part - self._centre, count) for part in queries.split(chunk)]
        return torch.cat(candidates).sort(dim=1).values


class _Product:
    """Candidates from a matrix product."""

    def __init__(self, rows: Tensor):
        padding = -len(rows) % _BLOCK  # the last block is filled with rows at infinite distance
        self.rows = F.pad(rows, (0, 0, 0, padding))
        self.norms = F.pad(rows.square().sum(1), (0, padding), value=torch.inf)

    def __call__(self, queries: Tensor, count: int) -> Tensor:
        # |a|^2 is left out: it is the same for all rows of a query and does not change their order
        order = torch.addmm(self.norms, queries, self.rows.T, alpha=-2)  # [q, M]
        return _smallest(order, count)


def _smallest(values: Tensor, count: int) -> Tensor:
    """Indices `[q, count]` of the smallest values in each row of `[q, M]`, unordered.

    They lie in the `count` blocks of columns with the smallest minima, and minima are cheaper than a top-k.
    """
    blocks = values.unflatten(1, (-1, _BLOCK))
    if blocks.shape[1] <= 8 * count:
        return values.topk(count, dim=1, largest=False, sorted=False).indices
    chosen = blocks.amin(2).topk(count, dim=1, largest=False, sorted=False).indices
    inside = blocks.gather(1, chosen[:, :, None].expand(-1, -1, _BLOCK)).flatten(1)
    place = inside.topk(count, dim=1, largest=False, sorted=False).indices
    return chosen.gather(1, place // _BLOCK) * _BLOCK + place % _BLOCK


class _Bounds:
    """Lower bounds of distances, from the main axes of the bank and the lengths of the residuals.

    With `P` the projection onto the axes and `R` the residual, `|a - b|^2 = |Pa - Pb|^2 + |Ra - Rb|^2`, which is at
    least `|Pa - Pb|^2 + (|Ra| - |Rb|)^2`: the distance between vectors with one dimension more than there are axes.
    """

    def __init__(self, rows: Tensor, axes: Tensor):
        self.axes = axes  # [D, r], orthonormal
        self.rows = self._reduce(rows)
        self.norms = self.rows.square().sum(1)
        self.largest = self.norms.max()

    @classmethod
    def build(cls, rows: Tensor) -> _Bounds | None:
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
        """Find the rows with the smallest bounds.

        Returns:
            row indices `[q, count]` in ascending order, and `[q]`, a lower bound of the distance to any other row.
        """
        reduced = self._reduce(queries)
        order = torch.addmm(self.norms, reduced, self.rows.T, alpha=-2)
        smallest = order.topk(count + 1, dim=1, largest=False)  # sorted: the last one is the bound of all others
        norms = reduced.square().sum(1)
        others = smallest.values[:, -1] + norms - _ROUNDING * (norms + self.largest)
        return smallest.indices[:, :-1].sort(dim=1).values, others.clamp(min=0).sqrt()


class _Faiss:
    """Candidates from faiss, an optional dependency: the same candidates with less memory per call."""

    def __init__(self, rows: Tensor):
        try:
            import faiss
        except ImportError as error:
            raise AnoframeError("model.search 'faiss' needs the extra: pip install 'anoframe[faiss]'") from error
        self.index = faiss.IndexFlatL2(rows.shape[1])
        self.index.add(rows.float().cpu().numpy())

    def __call__(self, queries: Tensor, count: int) -> Tensor:
        _, indices = self.index.search(queries.float().cpu().numpy(), count)
        return torch.from_numpy(indices).to(queries.device)


def nearest(queries: Tensor, bank: Tensor, k: int = 1, chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """Call :meth:`Search.nearest` on a bank that is searched only once."""
    return Search(bank).nearest(queries, k, chunk)


def exact_distances(queries: Tensor, bank: Tensor, candidates: Tensor) -> Tensor:
    """Compute `|a - b|` between each query `[q, D]` and its candidate rows `[q, c]`: `[q, c]`."""
    rows = max(1, _GATHERED // (candidates.shape[1] * bank.shape[1]))
    pairs = zip(queries.split(rows), candidates.split(rows), strict=True)
    return torch.cat([(part[:, None] - bank[indices]).norm(dim=2) for part, indices in pairs])
