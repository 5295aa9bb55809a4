"""AUROC and the ROC curve, for images and pixels alike.

Labels are 0/1 or bool, scores are any real numbers, higher is more anomalous; both have the same shape (any shape).
Scores are never rescaled: the value is the same under every strictly increasing map, in any order, and for any batches.
ValueError for NaN, for different shapes, and for labels other than 0 and 1. None means "not available": one class is
missing. Scores may be a torch tensor on a GPU; they are then sorted there.
Memory beyond bool labels and the scores: two chunks of scores (`threshold_sweep.CHUNK`: 16 MiB of float32, or 128 bytes
per positive if that is more), and about 100 bytes per positive.
All of this holds for `average_precision` and `f1.f1_max` as well.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from anoframe.metrics.array_checks import as_pair
from anoframe.metrics.threshold_sweep import RocCurve, sweep_threshold


def auroc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under the ROC curve, in [0, 1]: the probability that a positive outranks a normal; a tie counts half.

    Source: Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27, 2006, section 7.

    >>> auroc([0, 0, 1, 1], [30.0, 50.0, 40.0, 60.0])
    0.75
    """
    sweep = sweep_threshold(*as_pair(labels, scores))
    return None if sweep is None else sweep.auroc()


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> RocCurve | None:
    """Corners of the ROC curve: two per distinct positive score, and both ends."""
    sweep = sweep_threshold(*as_pair(labels, scores))
    return None if sweep is None else sweep.roc()
