"""Count right and wrong decisions at a given threshold.

A sample is called anomalous if score >= threshold. Float scores are compared in their own precision: a float32 score of
0.7 is at or above 0.7. For images and pixels alike: labels and scores have the same shape (any shape).
ValueError for NaN, for different shapes, and for labels other than 0 and 1. Memory: two bytes per score.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from anoframe.metrics.array_checks import as_pair
from anoframe.metrics.gpu_counts import to_host


class Decisions(NamedTuple):
    """Counts of right and wrong decisions. A metric is None ("not available") where its denominator has no sample."""

    hits: int  # positives called anomalous
    misses: int  # positives called normal
    false_alarms: int  # normals called anomalous
    rejections: int  # normals called normal

    def f1(self) -> float | None:
        """F1; None without a positive."""
        return None if not self._positives else 2 * self.hits / (self.hits + self.false_alarms + self._positives)

    def iou(self) -> float | None:
        """Intersection over union of decided and true positives; None without a positive."""
        return None if not self._positives else self.hits / (self.false_alarms + self._positives)

    def miss_rate(self) -> float | None:
        """Share of the positives called normal; None without a positive."""
        return self.misses / self._positives if self._positives else None

    def false_alarm_rate(self) -> float | None:
        """Share of the normals called anomalous; None without a normal sample."""
        normals = self.false_alarms + self.rejections
        return self.false_alarms / normals if normals else None

    def accuracy(self) -> float | None:
        """Share of right decisions; None without a sample."""
        return (self.hits + self.rejections) / sum(self) if sum(self) else None

    @property
    def _positives(self) -> int:
        return self.hits + self.misses


def count_decisions(labels: ArrayLike, scores: ArrayLike, threshold: float) -> Decisions:
    """Compare the decisions score >= threshold with the labels."""
    if np.isnan(threshold):
        raise ValueError("the threshold is NaN; expected a number in the units of the scores")
    flags, values = as_pair(labels, scores)
    called = to_host(values >= float(threshold))
    positives = int(np.count_nonzero(flags))
    hits = int(np.count_nonzero(called & flags))
    false_alarms = int(np.count_nonzero(called)) - hits
    return Decisions(hits, positives - hits, false_alarms, flags.size - positives - false_alarms)
