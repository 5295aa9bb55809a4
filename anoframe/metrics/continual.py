"""Metrics of continual learning: how much of earlier tasks a detector keeps while it learns later ones.

All functions take a matrix `R`: `R[i][j]` is any metric on the test images of task j after training on task i, both
counted from 0. The matrix has one row per trained task and one column per task of the stream, later tasks included.
None is "not available": a mean leaves it out, and is None if no value is left. Nothing is clipped: a task that is
better at the end than ever before has negative forgetting.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import fsum

Matrix = Sequence[Sequence[float | None]]


def average(matrix: Matrix, seen: int | None = None) -> float | None:
    """ACC: mean of the last row over the tasks seen so far.

    Source: Lopez-Paz & Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017, section 2 (ACC).

    Args:
        matrix: `R`.
        seen: number of tasks seen, the first ones of the stream; None: one per row.

    >>> average([[0.9, 0.5], [0.7, 0.8]])
    0.75
    """
    return mean_available(matrix[-1][: len(matrix) if seen is None else seen]) if matrix else None


def average_incremental(matrix: Matrix) -> float | None:
    """AIA: mean of ACC after each task.

    Source: Rebuffi et al., "iCaRL", CVPR 2017, section 4 (average incremental accuracy).

    >>> round(average_incremental([[0.9, 0.5], [0.7, 0.8]]), 4)
    0.825
    """
    return mean_available(average(matrix[: i + 1]) for i in range(len(matrix)))


def forgetting_per_task(matrix: Matrix) -> list[float | None]:
    """Forgetting of each trained task but the last: its best value in the rows before the last, minus its last value.

    >>> [round(value, 4) for value in forgetting_per_task([[0.9, 0.5, 0.5], [0.7, 0.8, 0.5], [0.8, 0.85, 0.9]])]
    [0.1, -0.05]
    """
    return [_difference(_best(matrix, j), matrix[-1][j]) for j in range(len(matrix) - 1)]


def forgetting(matrix: Matrix) -> float | None:
    """FM from the best value: mean of `forgetting_per_task`.

    Source: Chaudhry et al., "Riemannian Walk for Incremental Learning", ECCV 2018, section 3.2.

    >>> round(forgetting([[0.9, 0.5], [0.7, 0.8]]), 4)
    0.2
    """
    return mean_available(forgetting_per_task(matrix))


def forgetting_from_diagonal(matrix: Matrix) -> float | None:
    """FM from the diagonal: mean over all tasks but the last of (right after training) - (last row). Equals -BWT.

    Never above `forgetting` if every value is available: the diagonal is one of the candidates for the best value.
    """
    transfer = backward_transfer(matrix)
    return None if transfer is None else 0.0 - transfer  # not -transfer, which could be -0.0


def backward_transfer(matrix: Matrix) -> float | None:
    """BWT: mean over all trained tasks but the last of (last row) - (right after training).

    Source: Lopez-Paz & Ranzato, NeurIPS 2017, section 2 (BWT).

    >>> round(backward_transfer([[0.9, 0.5], [0.7, 0.8]]), 4)
    -0.2
    """
    return mean_available(_difference(matrix[-1][j], matrix[j][j]) for j in range(len(matrix) - 1))


def forward_transfer(matrix: Matrix, baseline: Sequence[float | None] | None = None) -> float | None:
    """FWT: mean over all tasks but the first of (right before training on the task) - (baseline).

    Source: Lopez-Paz & Ranzato, NeurIPS 2017, section 2 (FWT), where the baseline is the untrained network.

    Args:
        matrix: `R`.
        baseline: one value per task of the stream; without it there is no forward transfer (None).

    >>> round(forward_transfer([[0.9, 0.6], [0.7, 0.8]], [0.5, 0.5]), 4)
    0.1
    """
    if baseline is None:
        return None
    pairs = [(row[j], baseline[j]) for j, row in enumerate(matrix, 1) if j < len(row)]
    return mean_available(_difference(before, base) for before, base in pairs)


def mean_available(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are not None; None if there are none.

    >>> mean_available([0.5, None, 1.0]), mean_available([None])
    (0.75, None)
    """
    available = [value for value in values if value is not None]
    return fsum(available) / len(available) if available else None


def _best(matrix: Matrix, task: int) -> float | None:
    """Best value of a task from its own row to the row before the last."""
    available = [value for row in matrix[task:-1] if (value := row[task]) is not None]
    return max(available, default=None)


def _difference(minuend: float | None, subtrahend: float | None) -> float | None:
    return None if minuend is None or subtrahend is None else minuend - subtrahend
