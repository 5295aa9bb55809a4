"""Dropout that does not wait for its coins: on a CPU, where torch draws one after another, two bytes each will do."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SIDES = 1 << 16  # of a coin


class Dropout(nn.Dropout):
    """`nn.Dropout`, with :func:`dropped`."""

    def forward(self, values: Tensor) -> Tensor:
        return dropped(values, self.p) if self.training else values


def dropped(values: Tensor, p: float) -> Tensor:
    """Values, each of which is zero with probability `p` and else `1 / (1 - p)` times as large.

    On a CPU `p` is rounded to a 65,536th, and there are four coins in each number that torch's generator gives: eight
    times as fast as `F.dropout`'s coins, which take a sixth of the time of UniAD's step of training.
    """
    if values.device.type != "cpu":
        return F.dropout(values, p)
    zeros = round(p * _SIDES)
    if not zeros:
        return values
    count = values.numel()
    coins = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:count]
    kept = (coins >= zeros - _SIDES // 2).view(values.shape)
    return values * kept.to(values.dtype).mul_(_SIDES / (_SIDES - zeros))
