"""Metrics of decisions at a threshold given from outside: F1, accuracy, IoU.

A sample is called anomalous where score >= threshold. Float scores are compared in their own precision: a float32
score of 0.7 is at or above 0.7. For images and pixels alike: labels and scores have one shape, which may be any.
ValueError for NaN, for shapes that differ, for labels other than 0 and 1. None means "not available": no positive to
find, or, for accuracy, nothing to count. Memory: two bytes a score.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from anoframe.metrics.checks import as_pair
from anoframe.metrics.on_gpu import to_host


class Decisions(NamedTuple):
    """Counts of right and wrong decisions."""

    hits: int  # positives called anomalous
    misses: int  # positives called normal
    false_alarms: int  # normals called anomalous
    rejections: int  # normals called normal

    def f1(self) -> float | None:
        return None if not self._positives else 2 * self.hits / (self.hits + self.false_alarms + self._positives)

    def iou(self) -> float | None:
        return None if not self._positives else self.hits / (self.false_alarms + self._positives)

    def accuracy(self) -> float | None:
        return (self.hits + self.rejections) / sum(self) if sum(self) else None

    @property
    def _positives(self) -> int:
        return self.hits + self.misses


def f1_at(labels: ArrayLike, scores: ArrayLike, threshold: float) -> float | None:
    """F1 of the decisions, in [0, 1]: harmonic mean of precision and recall.

    >>> f1_at([0, 0, 1, 1], [30.0, 50.0, 40.0, 60.0], threshold=40.0)
    0.8
    """
    return decide(labels, scores, threshold).f1()


def accuracy_at(labels: ArrayLike, scores: ArrayLike, threshold: float) -> float | None:
    """Share of right decisions, in [0, 1]. Over pixels it is near 1 for a detector that finds nothing.

    >>> accuracy_at([0, 0, 1, 1], [30.0, 50.0, 40.0, 60.0], threshold=40.0)
    0.75
    """
    return decide(labels, scores, threshold).accuracy()


def iou_at(labels: ArrayLike, scores: ArrayLike, threshold: float) -> float | None:
    """Intersection over union of decided and true positives, over all samples together, in [0, 1].

    >>> iou_at([0, 0, 1, 1], [30.0, 50.0, 40.0, 60.0], threshold=40.0)
    0.6666666666666666
    """
    return decide(labels, scores, threshold).iou()


def decide(labels: ArrayLike, scores: ArrayLike, threshold: float) -> Decisions:
    """Count the decisions score >= threshold against the labels."""
    if np.isnan(threshold):
        raise ValueError("the threshold is NaN; expected a number in the units of the scores")
    flags, values = as_pair(labels, scores)
    called = to_host(values >= float(threshold))
    positives = int(np.count_nonzero(flags))
    hits = int(np.count_nonzero(called & flags))
    false_alarms = int(np.count_nonzero(called)) - hits
    return Decisions(hits, positives - hits, false_alarms, flags.size - positives - false_alarms)
