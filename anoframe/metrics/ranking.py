"""Metrics of a ranking, for images and pixels alike: AUROC, average precision, the best F1.

Labels are 0/1 or bool, scores are any real numbers, higher is more anomalous; both have one shape, which may be any.
A score is never rescaled: the value is the same under every strictly increasing map, every order, every cut into
batches. ValueError for NaN, for shapes that differ, for labels other than 0 and 1. None means "not available": one
class is missing. Scores may be a torch tensor on a GPU, and then they are sorted there.
Memory beyond bool labels and the scores: a chunk of scores (`sweep.CHUNK`: 16 MiB of float32, or 128 bytes a positive
where that is more), and about 100 bytes a positive.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from anoframe.metrics.checks import as_pair
from anoframe.metrics.sweep import PrCurve, RocCurve, Sweep, sweep_threshold


def auroc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under the ROC curve, in [0, 1]: how often a positive outranks a normal, a tie counting half.

    Source: Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27, 2006, section 7.

    >>> auroc([0, 0, 1, 1], [30.0, 50.0, 40.0, 60.0])
    0.75
    """
    sweep = _sweep(labels, scores)
    return None if sweep is None else sweep.auroc()


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Sum over thresholds of (gain in recall) x precision, in (0, 1]: steps, no interpolation, as scikit-learn has it.

    Source: Manning, Raghavan, Schütze, "Introduction to Information Retrieval", 2008, section 8.4.

    >>> round(average_precision([0, 0, 1, 1], [30.0, 50.0, 40.0, 60.0]), 4)
    0.8333
    """
    sweep = _sweep(labels, scores)
    return None if sweep is None else sweep.average_precision()


def f1_max(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """The best F1 over all thresholds, in (0, 1]. An oracle: the threshold is chosen on the labels it is measured with.

    Source: Jeong et al., "WinCLIP", CVPR 2023, arXiv:2303.14814, section 5 (F1-max).

    >>> f1_max([0, 0, 1, 1], [30.0, 50.0, 40.0, 60.0])
    0.8
    """
    sweep = _sweep(labels, scores)
    return None if sweep is None else sweep.f1_max()


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> RocCurve | None:
    """Corners of the ROC curve: two for each distinct positive score, and both ends."""
    sweep = _sweep(labels, scores)
    return None if sweep is None else sweep.roc()


def pr_curve(labels: ArrayLike, scores: ArrayLike) -> PrCurve | None:
    """Precision and recall at each distinct positive score: the points where recall rises."""
    sweep = _sweep(labels, scores)
    return None if sweep is None else sweep.pr()


def _sweep(labels: ArrayLike, scores: ArrayLike) -> Sweep | None:
    return sweep_threshold(*as_pair(labels, scores))
