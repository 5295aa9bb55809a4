"""Average precision and the precision-recall curve, for images and pixels alike.

Arguments, errors, None and memory: as in `auroc`.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from anoframe.metrics.array_checks import as_pair
from anoframe.metrics.threshold_sweep import PrCurve, sweep_threshold


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Sum over thresholds of (gain in recall) x precision, in (0, 1]: steps without interpolation, as in scikit-learn.

    Source: Manning, Raghavan, Schütze, "Introduction to Information Retrieval", 2008, section 8.4.

    >>> round(average_precision([0, 0, 1, 1], [30.0, 50.0, 40.0, 60.0]), 4)
    0.8333
    """
    sweep = sweep_threshold(*as_pair(labels, scores))
    return None if sweep is None else sweep.average_precision()


def pr_curve(labels: ArrayLike, scores: ArrayLike) -> PrCurve | None:
    """Precision and recall at each distinct positive score: the points where recall rises."""
    sweep = sweep_threshold(*as_pair(labels, scores))
    return None if sweep is None else sweep.pr()
