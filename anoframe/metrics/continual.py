"""Metrics of continual learning: what a detector keeps of earlier tasks while it learns later ones.

Functions on a matrix `R`: `R[i][j]` is any metric on the test images of task j after task i was learned, both from 0.
It has a row for each task that was learned so far, and a column for each task of the stream, later ones too. None is
"not available": a mean leaves it out, and is None where nothing is left. Nothing is clipped: a task that is better at
the end than ever before has a forgetting below 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import fsum

Matrix = Sequence[Sequence[float | None]]


def average(matrix: Matrix, seen: int | None = None) -> float | None:
    """ACC: mean of the last row over the tasks seen so far, which are the first `seen`; by default one a row.

    Source: Lopez-Paz & Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017, section 2 (ACC).

    >>> average([[0.9, 0.5], [0.7, 0.8]])
    0.75
    """
    return mean_of(matrix[-1][: len(matrix) if seen is None else seen]) if matrix else None


def average_incremental(matrix: Matrix) -> float | None:
    """AIA: mean of ACC over all times at which a task was learned.

    Source: Rebuffi et al., "iCaRL", CVPR 2017, section 4 (average incremental accuracy).

    >>> round(average_incremental([[0.9, 0.5], [0.7, 0.8]]), 4)
    0.825
    """
    return mean_of(average(matrix[: i + 1]) for i in range(len(matrix)))


def forgetting_of_each(matrix: Matrix) -> list[float | None]:
    """For each task but the last learned: its best value before the last task was learned, less the one after.

    >>> [round(one, 4) for one in forgetting_of_each([[0.9, 0.5, 0.5], [0.7, 0.8, 0.5], [0.8, 0.85, 0.9]])]
    [0.1, -0.05]
    """
    return [_difference(_best(matrix, j), matrix[-1][j]) for j in range(len(matrix) - 1)]


def forgetting(matrix: Matrix) -> float | None:
    """FM by the maximum: mean of `forgetting_of_each`. The last row is no candidate for the best.

    Source: Chaudhry et al., "Riemannian Walk for Incremental Learning", ECCV 2018, section 3.2.

    >>> round(forgetting([[0.9, 0.5], [0.7, 0.8]]), 4)
    0.2
    """
    return mean_of(forgetting_of_each(matrix))


def forgetting_from_diagonal(matrix: Matrix) -> float | None:
    """FM from the diagonal: mean over all tasks but the last of (just after it was learned) - (now), which is -BWT.

    Never above `forgetting` where every value is available: the value just after is one of those the best is taken of.
    """
    transfer = backward_transfer(matrix)
    return None if transfer is None else 0.0 - transfer  # and never -0.0


def backward_transfer(matrix: Matrix) -> float | None:
    """BWT: mean over all tasks but the last learned of (now) - (just after it was learned).

    Source: Lopez-Paz & Ranzato, NeurIPS 2017, section 2 (BWT).

    >>> round(backward_transfer([[0.9, 0.5], [0.7, 0.8]]), 4)
    -0.2
    """
    return mean_of(_difference(matrix[-1][j], matrix[j][j]) for j in range(len(matrix) - 1))


def forward_transfer(matrix: Matrix, baseline: Sequence[float | None] | None = None) -> float | None:
    """FWT: mean over tasks, without the first, of (just before it is learned) - (baseline).

    Source: Lopez-Paz & Ranzato, NeurIPS 2017, section 2 (FWT), where the baseline is the untrained network.

    Args:
        baseline: a value a task of the stream; None, and there is no forward transfer.

    >>> round(forward_transfer([[0.9, 0.6], [0.7, 0.8]], [0.5, 0.5]), 4)
    0.1
    """
    if baseline is None:
        return None
    nexts = [(row[j], baseline[j]) for j, row in enumerate(matrix, 1) if j < len(row)]
    return mean_of(_difference(before, base) for before, base in nexts)


def mean_of(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are available; None where there are none.

    >>> mean_of([0.5, None, 1.0]), mean_of([None])
    (0.75, None)
    """
    known = [value for value in values if value is not None]
    return fsum(known) / len(known) if known else None


def _best(matrix: Matrix, task: int) -> float | None:
    """Of a task from when it was learned until before the last row."""
    known = [value for row in matrix[task:-1] if (value := row[task]) is not None]
    return max(known, default=None)


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other
