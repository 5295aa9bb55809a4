"""Exact nearest-neighbour search in Euclidean distance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.components.nearest_bounds import Bounds, build_bounds

ENGINES = ("torch", "faiss")
# Extra candidates that the fast distance formula passes on to the exact one, so that its rounding loses no neighbour.
SPARE = 7
# Columns per block; the smallest value of each block is computed first.
_BLOCK = 64
# Share of undecided queries from which bounds are switched off.
_TOO_MANY = 0.6
# Bank values gathered at a time when candidates are measured exactly: 2 MB of float32 stay in the cache.
_GATHERED = 2**19


class Search:
    """Nearest-neighbour search in one bank. What depends only on the bank is computed once; threads may share it.

    Candidates come from `|a|^2 + |b|^2 - 2ab` (one matrix product) and are measured again as `|a - b|`. So returned
    distances are those of the difference: a bank row has distance exactly 0 to itself, and the result of a query does
    not depend on the other queries. Products of reduced precision (TF32, if enabled) may add candidates but do not
    change distances.

    Lower bounds of the distances come first where they pay: along the main axes of a large bank, and from a product in
    bfloat16 on processors that have one. Only queries that they leave undecided are searched in float32: the same
    result, several times faster.

    Memory besides the bank: one copy of it, or up to 1.9, and `chunk * M` values per call.

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
        chunks = [self._nearest_by_bounds(part, k, list(self._bounds)) for part in queries.split(chunk)]
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
        candidates, bound_of_others = first(queries - self._centre, k + SPARE)
        distances, order = exact_distances(queries, self.bank, candidates).sort(dim=1, stable=True)
        distances, indices = distances[:, :k], candidates.gather(1, order[:, :k])
        undecided = (distances[:, -1] >= bound_of_others).nonzero()[:, 0]
        if len(undecided):
            distances[undecided], indices[undecided] = self._nearest_by_bounds(queries[undecided], k, others)
        if len(undecided) > _TOO_MANY * len(queries):  # it costs more than it saves, and later queries will be similar
            self._bounds = [each for each in self._bounds if each is not first]
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
