"""Position codes of the tokens of a grid."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class LearnedPosition(nn.Module):
    """Learned codes of columns and rows, concatenated: the first half of the width is the column's.

    Args:
        grid: rows and columns; `L` is their product.
        width: `d`, even.
    """

    def __init__(self, grid: tuple[int, int], width: int):
        super().__init__()
        self.columns = nn.Parameter(torch.rand(grid[1], width // 2))
        self.rows = nn.Parameter(torch.rand(grid[0], width // 2))

    def forward(self) -> Tensor:
        """`[L, d]`."""
        shape = (len(self.rows), len(self.columns), -1)
        return torch.cat([self.columns[None].expand(shape), self.rows[:, None].expand(shape)], dim=2).flatten(0, 1)


class SinePosition(nn.Module):
    """Fixed sine and cosine waves over rows (first half of the width) and columns (second half).

    Positions are counted from 1 and scaled so that the last is a full turn. Carion et al., "End-to-End Object
    Detection with Transformers", ECCV 2020, as in UniAD's code.

    Args:
        grid: rows and columns; `L` is their product.
        width: `d`, even.
    """

    code: Tensor

    def __init__(self, grid: tuple[int, int], width: int):
        super().__init__()
        rows, columns = (self._waves(length, width // 2) for length in grid)
        shape = (*grid, -1)
        code = torch.cat([rows[:, None].expand(shape), columns[None].expand(shape)], dim=2).flatten(0, 1)
        self.register_buffer("code", code, persistent=False)

    @staticmethod
    def _waves(length: int, width: int) -> Tensor:
        """`[length, width]`, sine and cosine alternating."""
        turn = torch.arange(1, length + 1) / (length + 1e-6) * 2 * math.pi
        index = torch.arange(width)
        angles = turn[:, None] / 10000 ** (2 * (index // 2) / width)
        return torch.where(index % 2 == 0, angles.sin(), angles.cos())

    def forward(self) -> Tensor:
        """`[L, d]`."""
        return self.code
