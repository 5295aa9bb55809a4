"""Windows on a grid of patches, and the aggregation of window scores to a map (Jeong et al., CVPR 2023, section 4.2).

A window is a square of `side` x `side` patches; windows have a stride of one patch and lie inside the grid. Window `u`
of a grid `h` x `w` has its top left corner in row `u // (w - side + 1)` and column `u % (w - side + 1)`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def window_table(grid: tuple[int, int], side: int) -> Tensor:
    """Return the patches of each window, `[W, side * side]` int64, with `W = (h - side + 1) * (w - side + 1)`.

    Patches are numbered row by row.

    >>> window_table((3, 3), 2).tolist()
    [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]
    """
    patches = torch.arange(grid[0] * grid[1]).view(grid)
    return patches.unfold(0, side, 1).unfold(1, side, 1).reshape(-1, side * side)


def num_windows(grid: tuple[int, int], side: int) -> int:
    """Return the number of windows of a grid."""
    return (grid[0] - side + 1) * (grid[1] - side + 1)


def window_means(patches: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """Average the patches of each window: `[B, h * w, C]` to `[B, W, C]`."""
    maps = patches.transpose(1, 2).unflatten(2, grid)  # [B, C, h, w]
    return F.avg_pool2d(maps, side, stride=1).flatten(2).transpose(1, 2)


def harmonic_map(scores: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """Compute the harmonic mean of the scores of all windows that cover a patch: `[B, W]` to `[B, h, w]`.

    A harmonic mean is dominated by its lowest values, here by the windows that look normal. It is 0 if one of the
    scores is 0.

    Args:
        scores: not negative.
        grid: height and width in patches.
        side: of a window, in patches.

    >>> harmonic_map(torch.tensor([[1.0, 0.75, 0.5, 0.25]]), (3, 3), 2)[0, 1].tolist()
    [0.6666666865348816, 0.47999998927116394, 0.375]
    """
    inverse = (1 / scores).unflatten(1, (grid[0] - side + 1, grid[1] - side + 1))
    return _sum_of_covering(torch.ones_like(inverse[:1]), side) / _sum_of_covering(inverse, side)


def _sum_of_covering(values: Tensor, side: int) -> Tensor:
    """Sum the values of all windows that cover a patch: `[B, h - side + 1, w - side + 1]` to `[B, h, w]`."""
    padded = F.pad(values[:, None], (side - 1,) * 4)
    return F.avg_pool2d(padded, side, stride=1, divisor_override=1)[:, 0]


def harmonic_mean_of_scales(image_score: Tensor, maps: list[Tensor]) -> Tensor:
    """Combine an image score `[B]`, as a constant map, and maps `[B, h, w]` of several scales by the harmonic mean."""
    inverse = torch.stack([(1 / image_score)[:, None, None].expand_as(maps[0]), *(1 / scale for scale in maps)])
    return len(inverse) / inverse.sum(0)
