"""Exact nearest neighbours in Euclidean distance."""

from __future__ import annotations

import torch
from torch import Tensor

# Extra candidates that the fast form passes on to the exact one, so that its rounding cannot cost a neighbour.
_SPARE = 7
# Numbers gathered from the bank at a time when candidates are measured exactly: 64 MB of float32.
_GATHERED = 2**24


def nearest(queries: Tensor, bank: Tensor, k: int = 1, chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """The `k` nearest rows of `bank` for each query, nearest first.

    Candidates are found by `|a|^2 + |b|^2 - 2ab` (one matrix product), then measured again as `|a - b|`, so the
    distances returned are those of the difference form: a row of the bank has distance exactly 0 to itself, and a
    query's result does not depend on the queries beside it.

    Args:
        queries: `[Q, D]`.
        bank: `[M, D]`.
        k: neighbours, clipped to `M`.
        chunk: queries at a time; memory is `chunk * M` numbers, and 64 MB a few times over.

    Returns:
        distances `[Q, k]` and indices into the bank `[Q, k]`.
    """
    k = min(k, len(bank))
    search = _Search(bank)
    parts = [_nearest_chunk(part, bank, search, k) for part in queries.split(chunk)]
    if not parts:
        return queries.new_empty(0, k), torch.empty(0, k, dtype=torch.int64, device=queries.device)
    return torch.cat([distances for distances, _ in parts]), torch.cat([indices for _, indices in parts])


def _nearest_chunk(queries: Tensor, bank: Tensor, search: _Search, k: int) -> tuple[Tensor, Tensor]:
    candidates = search(queries, k + _SPARE)
    candidates = candidates.sort(dim=1).values  # of equal candidates the earlier row wins
    exact = exact_distances(queries, bank, candidates)
    distances, order = exact.sort(dim=1, stable=True)
    return distances[:, :k], candidates.gather(1, order[:, :k])


def near(queries: Tensor, bank: Tensor, count: int, chunk: int = 1024) -> Tensor:
    """Indices `[Q, count]` of about the nearest rows, in no order: as `nearest`, without measuring again.

    For where a neighbourhood is wanted and not its distances. `count` is clipped to the bank.
    """
    search = _Search(bank)
    return torch.cat([search(part, count) for part in queries.split(chunk)])


class _Search:
    """The fast form. Around the bank's mean, because far from the origin its differences drown in rounding."""

    def __init__(self, bank: Tensor):
        self.centre = bank.mean(0)
        self.rows = bank - self.centre
        self.norms = self.rows.square().sum(1)

    def __call__(self, queries: Tensor, count: int) -> Tensor:
        # |a|^2 is the same for all rows and cannot change their order for a query
        order = torch.addmm(self.norms, queries - self.centre, self.rows.T, alpha=-2)  # [q, M]
        return order.topk(min(count, len(self.rows)), dim=1, largest=False, sorted=False).indices


def exact_distances(queries: Tensor, bank: Tensor, candidates: Tensor) -> Tensor:
    """`|a - b|` between each query `[q, D]` and its candidate rows `[q, c]`: `[q, c]`."""
    rows = max(1, _GATHERED // (candidates.shape[1] * bank.shape[1]))
    pairs = zip(queries.split(rows), candidates.split(rows), strict=True)
    return torch.cat([(part[:, None] - bank[indices]).norm(dim=2) for part, indices in pairs])
