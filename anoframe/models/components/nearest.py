"""Exact nearest-neighbour search in Euclidean distance."""

from __future__ import annotations

import torch
from torch import Tensor

from anoframe.errors import AnoframeError
from anoframe.models.components.nearest_bounds import Bounds, build_bounds
from anoframe.models.components.smallest_columns import pad_bank, smallest_columns

ENGINES = ("torch", "faiss")
# Extra candidates that the fast distance formula passes on to the exact one, so that its rounding loses no neighbour.
SPARE = 7
# Candidates of a query that the usual number leaves undecided: measuring them costs less than a search in float32.
_MANY = 32
# Share of undecided queries from which bounds are switched off.
_TOO_MANY = 0.6
# Most scores (queries times bank rows) at a time: 16 MB of float32. Memory of this size is reused by the next part;
# larger blocks come from the operating system each time, which is slow.
_SCORES = 2**22
_MOST_QUERIES = 1024
# Bank values gathered at a time when candidates are measured exactly: 2 MB of float32 stay in the cache.
_GATHERED = 2**19


class Search:
    """Nearest-neighbour search in one bank. What depends only on the bank is computed once; threads may share it.

    Candidates come from `|a|^2 + |b|^2 - 2ab` (one matrix product) and are measured again as `|a - b|`. So returned
    distances are those of the difference: a bank row has distance exactly 0 to itself, and the result of a query does
    not depend on the other queries. Products of reduced precision (TF32, if enabled) may add candidates but do not
    change distances.

    Lower bounds of the distances come first where they pay: along the main axes of a large bank, and from a product in
    bfloat16 on processors that have one. Queries that they leave undecided with a few candidates get more of them, and
    only what is undecided then is searched in float32: the same result, faster.

    Memory besides the bank: one copy of it, or up to 1.9, and per call `2 * chunk * M` values, on a CPU about 32 MB.

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
        self._bounds: list[Bounds] = build_bounds(rows) if engine == "torch" else []

    def nearest(self, queries: Tensor, k: int = 1, chunk: int | None = None) -> tuple[Tensor, Tensor]:
        """Find the `k` nearest rows of each query, nearest first; among equally near rows the earlier one.

        Args:
            queries: `[Q, D]`.
            k: number of neighbours, at most `M` are returned.
            chunk: number of queries processed at a time; None: what fits into the cache.

        Returns:
            distances `[Q, k]` and indices into the bank `[Q, k]`.
        """
        k = min(k, len(self.bank))
        parts = queries.split(chunk or self._chunk())
        chunks = [self._nearest_by_bounds(part, k, list(self._bounds)) for part in parts]
        return torch.cat([distances for distances, _ in chunks]), torch.cat([indices for _, indices in chunks])

    def _nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        candidates = self.near(queries, k + SPARE)
        exact = exact_distances(queries, self.bank, candidates)
        distances, order = exact.sort(dim=1, stable=True)
        return distances[:, :k], candidates.gather(1, order[:, :k])

    def _nearest_by_bounds(self, queries: Tensor, k: int, bounds: list[Bounds]) -> tuple[Tensor, Tensor]:
        """Search with the first of the bounds, and what it leaves undecided with the next ones."""
        if not bounds or k + SPARE >= len(self.bank):
            return self._nearest(queries, k)
        first, *others = bounds
        centred = queries - self._centre
        scores = first.scores(centred)
        distances, indices = queries.new_empty(len(queries), k), scores.new_empty(len(queries), k, dtype=torch.long)
        undecided = torch.arange(len(queries), device=queries.device)
        for count in (k + SPARE, k + _MANY):
            if not len(undecided) or count >= len(self.bank):
                break
            rows = slice(None) if len(undecided) == len(queries) else undecided
            candidates, bound = _candidates(first, centred[rows], scores[rows], count)
            nearest, order = exact_distances(queries[rows], self.bank, candidates).sort(dim=1, stable=True)
            distances[rows], indices[rows] = nearest[:, :k], candidates.gather(1, order[:, :k])
            undecided = undecided[nearest[:, k - 1] >= bound]
        if len(undecided):
            distances[undecided], indices[undecided] = self._nearest_by_bounds(queries[undecided], k, others)
        if len(undecided) > _TOO_MANY * len(queries):  # it costs more than it saves, and later queries will be similar
            self._bounds = [each for each in self._bounds if each is not first]
        return distances, indices

    def _chunk(self) -> int:
        """Return the number of queries at a time: on a CPU what keeps the scores in memory that is used again."""
        if self.bank.device.type != "cpu":
            return _MOST_QUERIES
        return min(max(_SCORES // len(self.bank), 64), _MOST_QUERIES)

    def near(self, queries: Tensor, count: int, chunk: int | None = None) -> Tensor:
        """Find roughly the `count` nearest rows of each query, without the exact distances of `nearest`.

        Returns:
            Indices `[Q, count]` in ascending order; `count` is at most the size of the bank.
        """
        count = min(count, len(self.bank))
        candidates = [self._find(part - self._centre, count) for part in queries.split(chunk or self._chunk())]
        return torch.cat(candidates).sort(dim=1).values


def _candidates(bounds: Bounds, queries: Tensor, scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the rows with the smallest scores, `[q, count]` in ascending order, and `[q]`, a bound of all others."""
    columns = smallest_columns(scores, count + 1)
    values, order = scores.gather(1, columns).sort(dim=1)
    candidates = columns.gather(1, order[:, :count]).sort(dim=1).values
    return candidates, bounds.distances(queries, values[:, count])


class _Product:
    """Candidates from a matrix product."""

    def __init__(self, rows: Tensor):
        self.rows, self.norms = pad_bank(rows, rows.square().sum(1))

    def __call__(self, queries: Tensor, count: int) -> Tensor:
        # |a|^2 is left out: it is the same for all rows of a query and does not change their order
        order = torch.addmm(self.norms, queries, self.rows.T, alpha=-2)  # [q, M]
        return smallest_columns(order, count)


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


def nearest(queries: Tensor, bank: Tensor, k: int = 1, chunk: int | None = None) -> tuple[Tensor, Tensor]:
    """Call :meth:`Search.nearest` on a bank that is searched only once."""
    return Search(bank).nearest(queries, k, chunk)


def exact_distances(queries: Tensor, bank: Tensor, candidates: Tensor) -> Tensor:
    """Compute `|a - b|` between each query `[q, D]` and its candidate rows `[q, c]`: `[q, c]`."""
    rows = max(1, _GATHERED // (candidates.shape[1] * bank.shape[1]))
    pairs = zip(queries.split(rows), candidates.split(rows), strict=True)
    return torch.cat([(part[:, None] - bank[indices]).norm(dim=2) for part, indices in pairs])
