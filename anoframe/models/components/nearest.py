"""Exact nearest neighbours in Euclidean distance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anoframe.errors import AnoframeError

ENGINES = ("torch", "faiss")
# Extra candidates that the fast form passes on to the exact one, so that its rounding cannot cost a neighbour.
SPARE = 7
# Columns whose smallest value is looked at first.
_BLOCK = 64
# Rows from which on bounds are worth their axes (half a second for 1024 dimensions) and the queries left in doubt.
_LARGE_BANK = 4096
# Share of the variance that the axes may leave. Of patches' features (EfficientNet-Lite0) a quarter of the axes leaves
# it, and of the queries one in fifty (screws) to one in three (bottles) in doubt.
_LEFT = 0.05
# Share of queries in doubt from which on bounds are given up.
_TOO_MANY = 0.6
# What float32 may round away of |a|^2 + |b|^2 - 2ab, as a share of |a|^2 + |b|^2, with room to spare.
_ROUNDING = 1e-5
# Numbers gathered from the bank at a time when candidates are measured exactly: 2 MB of float32 stay in the cache.
_GATHERED = 2**19


class Search:
    """The nearest rows of one bank. What depends on the bank alone is computed once; may be shared by threads.

    Candidates are found by `|a|^2 + |b|^2 - 2ab` (one matrix product), then measured again as `|a - b|`, so the
    distances returned are those of the difference form: a row of the bank has distance exactly 0 to itself, and a
    query's result does not depend on the queries beside it. Products of reduced precision (TF32, where it was allowed)
    cost candidates, not digits.

    Where most of a large bank's variance lies along few axes, lower bounds from these alone are looked at first, and
    only queries for which they leave a doubt are searched in all dimensions: the same result, several times sooner.

    Memory beside the bank: one copy of it, or one and a third, and `chunk * M` numbers a call.

    Args:
        bank: `[M, D]`.
        engine: what finds the candidates: `"torch"`, or `"faiss"` (its flat index, on the CPU).
    """

    def __init__(self, bank: Tensor, engine: str = "torch"):
        if engine not in ENGINES:
            raise AnoframeError(f"model.search is one of {', '.join(ENGINES)}, got {engine!r}")
        self.bank = bank
        # Around the bank's mean, because far from the origin its differences drown in rounding
        self._centre = bank.mean(0)
        rows = bank - self._centre
        self._find = _Product(rows) if engine == "torch" else _Faiss(rows)
        self._bounds = _Bounds.of(rows) if engine == "torch" else None

    def nearest(self, queries: Tensor, k: int = 1, chunk: int = 1024) -> tuple[Tensor, Tensor]:
        """The `k` nearest rows for each query, nearest first; of equally near rows the earlier one.

        Args:
            queries: `[Q, D]`.
            k: neighbours, clipped to `M`.
            chunk: queries at a time.

        Returns:
            distances `[Q, k]` and indices into the bank `[Q, k]`.
        """
        k = min(k, len(self.bank))
        parts = [self._nearest_by_bounds(part, k) for part in queries.split(chunk)]
        return torch.cat([distances for distances, _ in parts]), torch.cat([indices for _, indices in parts])

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
        doubtful = (distances[:, -1] >= bound_of_others).nonzero()[:, 0]
        if len(doubtful):
            distances[doubtful], indices[doubtful] = self._nearest(queries[doubtful], k)
        if len(doubtful) > _TOO_MANY * len(queries):
            self._bounds = None  # they cost more than they save, here and so with the queries to come
        return distances, indices

    def near(self, queries: Tensor, count: int, chunk: int = 1024) -> Tensor:
        """Indices `[Q, count]`, rising, of about the nearest rows: as `nearest`, without measuring again.

        For where a neighbourhood is wanted and not its distances. `count` is clipped to the bank.
        """
        count = min(count, len(self.bank))
        found = [self._find(part - self._centre, count) for part in queries.split(chunk)]
        return torch.cat(found).sort(dim=1).values


class _Product:
    """Candidates by a matrix product."""

    def __init__(self, rows: Tensor):
        spare = -len(rows) % _BLOCK  # rows that are nobody's neighbour fill the last block
        self.rows = F.pad(rows, (0, 0, 0, spare))
        self.norms = F.pad(rows.square().sum(1), (0, spare), value=torch.inf)

    def __call__(self, queries: Tensor, count: int) -> Tensor:
        # |a|^2 is the same for all rows and cannot change their order for a query
        order = torch.addmm(self.norms, queries, self.rows.T, alpha=-2)  # [q, M]
        return _smallest(order, count)


def _smallest(values: Tensor, count: int) -> Tensor:
    """Indices `[q, count]` of the smallest of `[q, M]` in each row, in no order.

    They lie in the `count` blocks of columns with the smallest minima, and minima are found sooner than a few smallest.
    """
    blocks = values.unflatten(1, (-1, _BLOCK))
    if blocks.shape[1] <= 8 * count:
        return values.topk(count, dim=1, largest=False, sorted=False).indices
    chosen = blocks.amin(2).topk(count, dim=1, largest=False, sorted=False).indices
    inside = blocks.gather(1, chosen[:, :, None].expand(-1, -1, _BLOCK)).flatten(1)
    place = inside.topk(count, dim=1, largest=False, sorted=False).indices
    return chosen.gather(1, place // _BLOCK) * _BLOCK + place % _BLOCK


class _Bounds:
    """Lower bounds of distances: along the main axes of the bank, and by the lengths of what these leave.

    With `P` the part of a vector along the axes and `R` the rest, `|a - b|^2 = |Pa - Pb|^2 + |Ra - Rb|^2`, and this is
    at least `|Pa - Pb|^2 + (|Ra| - |Rb|)^2`: a distance between vectors of one number more than there are axes.
    """

    def __init__(self, rows: Tensor, axes: Tensor):
        self.axes = axes  # [D, r], orthonormal
        self.rows = self._reduced(rows)
        self.norms = self.rows.square().sum(1)
        self.largest = self.norms.max()

    @classmethod
    def of(cls, rows: Tensor) -> _Bounds | None:
        """None where a bank is small, or its variance spread over so many axes that bounds would save nothing."""
        count, width = rows.shape
        if count < _LARGE_BANK:
            return None
        some = rows[:: -(-count // max(4096, 4 * width))]  # any axes give bounds: those of some rows will do
        variance, axes = torch.linalg.eigh((some.T @ some).double())  # rising
        left = variance.clamp(min=0).cumsum(0) / variance.sum()
        needed = -(-int((left > _LEFT).sum()) // 32) * 32
        return cls(rows, axes[:, -needed:].to(rows.dtype)) if needed <= width // 3 else None

    def _reduced(self, rows: Tensor) -> Tensor:
        """`[n, D]` to `[n, r + 1]`."""
        along = rows @ self.axes
        rest = (rows.square().sum(1) - along.square().sum(1)).clamp(min=0).sqrt()
        return torch.cat([along, rest[:, None]], dim=1)

    def __call__(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Rows `[q, count]` of the smallest bounds, rising; and `[q]`, what the distance to any other is at least."""
        reduced = self._reduced(queries)
        order = torch.addmm(self.norms, reduced, self.rows.T, alpha=-2)
        smallest = order.topk(count + 1, dim=1, largest=False)  # sorted: the last is the bound of all others
        norms = reduced.square().sum(1)
        others = smallest.values[:, -1] + norms - _ROUNDING * (norms + self.largest)
        return smallest.indices[:, :-1].sort(dim=1).values, others.clamp(min=0).sqrt()


class _Faiss:
    """Candidates by faiss, an extra: it finds the same ones with fewer numbers in memory at a time."""

    def __init__(self, rows: Tensor):
        try:
            import faiss
        except ImportError as error:
            raise AnoframeError("model.search 'faiss' needs the extra: pip install 'anoframe[faiss]'") from error
        self.index = faiss.IndexFlatL2(rows.shape[1])
        self.index.add(rows.float().cpu().numpy())

    def __call__(self, queries: Tensor, count: int) -> Tensor:
        _, found = self.index.search(queries.float().cpu().numpy(), count)
        return torch.from_numpy(found).to(queries.device)


def nearest(queries: Tensor, bank: Tensor, k: int = 1, chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """:meth:`Search.nearest` of a bank that is searched once."""
    return Search(bank).nearest(queries, k, chunk)


def exact_distances(queries: Tensor, bank: Tensor, candidates: Tensor) -> Tensor:
    """`|a - b|` between each query `[q, D]` and its candidate rows `[q, c]`: `[q, c]`."""
    rows = max(1, _GATHERED // (candidates.shape[1] * bank.shape[1]))
    pairs = zip(queries.split(rows), candidates.split(rows), strict=True)
    return torch.cat([(part[:, None] - bank[indices]).norm(dim=2) for part, indices in pairs])
