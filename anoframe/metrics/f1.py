"""F1: its maximum over all thresholds, and F1 and accuracy at a given threshold; for images and pixels alike.

Arguments, errors and memory: as in `auroc` for `f1_max`, as in `decisions` for a given threshold.
None means "not available": one class is missing (`f1_max`), no positive (`f1_at`), or no sample (`accuracy_at`).
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from anoframe.metrics.array_checks import as_pair
from anoframe.metrics.decisions import count_decisions
from anoframe.metrics.threshold_sweep import sweep_threshold


def f1_max(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Maximum F1 over all thresholds, in (0, 1]. An oracle: the threshold is chosen on the labels it is measured with.

    Source: Jeong et al., "WinCLIP", CVPR 2023, arXiv:2303.14814, section 5 (F1-max).

    >>> f1_max([0, 0, 1, 1], [30.0, 50.0, 40.0, 60.0])
    0.8
    """
    sweep = sweep_threshold(*as_pair(labels, scores))
    return None if sweep is None else sweep.f1_max()


def f1_at(labels: ArrayLike, scores: ArrayLike, threshold: float) -> float | None:
    """F1 at a threshold, in [0, 1]: harmonic mean of precision and recall.

    >>> f1_at([0, 0, 1, 1], [30.0, 50.0, 40.0, 60.0], threshold=40.0)
    0.8
    """
    return count_decisions(labels, scores, threshold).f1()


def accuracy_at(labels: ArrayLike, scores: ArrayLike, threshold: float) -> float | None:
    """Share of right decisions at a threshold, in [0, 1]. Over pixels it is near 1 for a detector that detects nothing.

    >>> accuracy_at([0, 0, 1, 1], [30.0, 50.0, 40.0, 60.0], threshold=40.0)
    0.75
    """
    return count_decisions(labels, scores, threshold).accuracy()
