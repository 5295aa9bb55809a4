"""The smallest values in each row of a wide matrix of scores: one column per row of a bank."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Columns per block; the smallest value of each block is computed first.
_BLOCK = 64


def pad_bank(rows: Tensor, norms: Tensor) -> tuple[Tensor, Tensor]:
    """Fill the last block of a bank `[M, D]`, and its squared norms `[M]`, with rows at infinite distance."""
    padding = -len(rows) % _BLOCK
    return F.pad(rows, (0, 0, 0, padding)), F.pad(norms, (0, padding), value=torch.inf)


def smallest_columns(values: Tensor, count: int) -> Tensor:
    """Return the columns `[q, count]` of the smallest values in each row of `[q, M]`, unordered.

    They lie in the `count` blocks of columns with the smallest minima, and minima are cheaper than a top-k.

    Args:
        values: `M` is a multiple of the block, see `pad_bank`.
        count: at most `M`.
    """
    blocks = values.unflatten(1, (-1, _BLOCK))
    if blocks.shape[1] <= 8 * count:
        return values.topk(count, dim=1, largest=False, sorted=False).indices
    chosen = blocks.amin(2).topk(count, dim=1, largest=False, sorted=False).indices
    inside = blocks.gather(1, chosen[:, :, None].expand(-1, -1, _BLOCK)).flatten(1)
    place = inside.topk(count, dim=1, largest=False, sorted=False).indices
    return chosen.gather(1, place // _BLOCK) * _BLOCK + place % _BLOCK
