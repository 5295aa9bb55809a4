"""Exact nearest neighbours in Euclidean distance."""

from __future__ import annotations

import torch
from torch import Tensor

from anoframe.errors import AnoframeError

ENGINES = ("torch", "faiss")
# Extra candidates that the fast form passes on to the exact one, so that its rounding cannot cost a neighbour.
SPARE = 7
# Numbers gathered from the bank at a time when candidates are measured exactly: 64 MB of float32.
_GATHERED = 2**24


class Search:
    """The nearest rows of one bank. What depends on the bank alone is computed once; may be shared by threads.

    Candidates are found by `|a|^2 + |b|^2 - 2ab` (one matrix product), then measured again as `|a - b|`, so the
    distances returned are those of the difference form: a row of the bank has distance exactly 0 to itself, and a
    query's result does not depend on the queries beside it. Products of reduced precision (TF32, where it was allowed)
    cost candidates, not digits.

    Memory beside the bank: one copy of it, and `chunk * M` numbers a call.

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
        self._find = _Product(bank - self._centre) if engine == "torch" else _Faiss(bank - self._centre)

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
        parts = [self._nearest(part, k) for part in queries.split(chunk)]
        return torch.cat([distances for distances, _ in parts]), torch.cat([indices for _, indices in parts])

    def _nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        candidates = self.near(queries, k + SPARE)
        exact = exact_distances(queries, self.bank, candidates)
        distances, order = exact.sort(dim=1, stable=True)
        return distances[:, :k], candidates.gather(1, order[:, :k])

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
        self.rows, self.norms = rows, rows.square().sum(1)

    def __call__(self, queries: Tensor, count: int) -> Tensor:
        # |a|^2 is the same for all rows and cannot change their order for a query
        order = torch.addmm(self.norms, queries, self.rows.T, alpha=-2)  # [q, M]
        return order.topk(count, dim=1, largest=False, sorted=False).indices


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
