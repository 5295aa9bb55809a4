"""Re-weighting of the image score, equation 7 of the PatchCore paper."""

from __future__ import annotations

import math

from torch import Tensor

from anoframe.models.components.nearest import Search


def reweight(patch: Tensor, search: Search, entry: int, neighbours: int) -> float:
    """Compute the factor of equation 7 on the score of an image's most anomalous patch.

    `1 - exp|m - m*| / sum over N_b(m*) of exp|m - m'|`, where `N_b(m*)` are the `b` bank entries nearest to `m*`,
    including `m*` itself. It is small if many entries are as near to the patch as `m*`.

    Args:
        patch: `[D]`, the patch `m`.
        search: search over the bank `[M, D]`.
        entry: bank row `m*`, the entry nearest to the patch.
        neighbours: `b`, at most `M` are used.

    Returns:
        A factor in [0, 1); exactly 1 for `b = 1`, where the equation would make every score 0.
    """
    bank = search.bank
    if min(neighbours, len(bank)) == 1:
        return 1.0
    near_entry = search.nearest(bank[entry : entry + 1], neighbours)[1][0]
    distances = (bank[near_entry] - patch).norm(dim=1)
    closest = (bank[entry] - patch).norm()
    return 1 - math.exp(float(closest - distances.logsumexp(0)))
