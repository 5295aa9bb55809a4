"""sPRO of images that are added one at a time, at given thresholds: for maps that do not fit into memory together.

The thresholds divide the scores into bins, and equal scores are one step of the curve, so a bin is a straight line.
With every distinct score as a threshold the value is that of `auspro`; with fewer, its error is at most
`largest step in FPR / (2 x limit)`, and smaller if the scores of a bin are mixed. `quantile_thresholds` keeps the steps
small where the limits are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anoframe.metrics.array_checks import Scores, as_scores, check_limit
from anoframe.metrics.spro import region_gains
from anoframe.metrics.threshold_sweep import Counts, Floats, RocCurve, area_up_to

THRESHOLDS = 2**16


def quantile_thresholds(maps: Scores, count: int = THRESHOLDS) -> Scores:
    """Choose thresholds among the scores of maps, at most `count`, rising and distinct.

    The share of scores at or above the i-th threshold from the top is (i / (count - 1))^2: half of the thresholds lie
    in the highest quarter of the scores. The lowest and the highest score are thresholds.

    >>> quantile_thresholds(np.arange(10.0), 4)
    array([0., 5., 8., 9.])
    """
    scores = np.sort(maps, axis=None)
    ranks = (scores.size - 1) * (1 - np.linspace(0, 1, count) ** 2)
    return np.unique(scores[np.ceil(ranks).astype(np.int64)]) if scores.size else scores


class SproHistogram:
    """Counts of normal pixels, and gains of overlap, between the thresholds.

    Memory: 16 bytes per threshold, and about 30 bytes per pixel of one image.

    Args:
        thresholds: [k] rising, distinct.
    """

    def __init__(self, thresholds: Scores):
        self._thresholds = thresholds
        self._normals: Counts = np.zeros(len(thresholds) + 1, np.int64)  # [k + 1], from the lowest bin up
        self._gains: Floats = np.zeros(len(thresholds) + 1)
        self._regions = 0

    def add(self, regions: Sequence[tuple[ArrayLike, float]], anomaly_map: ArrayLike) -> None:
        """Add one image.

        Args:
            regions: mask bool [H, W] and saturation area in pixels of each region; empty for a normal image.
            anomaly_map: [H, W].

        Raises:
            ValueError: as `auspro`.
        """
        scores = as_scores(anomaly_map)
        is_defect, gains = region_gains(regions, scores)
        normals = np.sort(scores[~is_defect])
        below = np.searchsorted(normals, self._thresholds)
        self._normals += np.diff(below, prepend=0, append=normals.size)
        self._gains += self._sum_by_bin(scores, gains)
        self._regions += len(regions)

    def merged(self, other: SproHistogram) -> SproHistogram:
        """Return the histogram of the images of both, which have the same thresholds."""
        merged = SproHistogram(self._thresholds)
        merged._normals, merged._gains = self._normals + other._normals, self._gains + other._gains
        merged._regions = self._regions + other._regions
        return merged

    def auspro(self, limit: float) -> float | None:
        """Area under the sPRO curve up to a false-positive rate of `limit`, divided by it; None as for `auspro`."""
        check_limit(limit)
        if not self._regions or not self._normals.any():
            return None
        fpr = np.cumsum(self._normals[::-1]) / self._normals.sum()
        overlap = np.cumsum(self._gains[::-1]) / self._regions
        return area_up_to(RocCurve(np.append(0.0, fpr), np.append(0.0, overlap)), limit) / limit

    def _sum_by_bin(self, scores: Scores, gains: NDArray[np.float64]) -> Floats:
        """Sum the gains [H, W] of the pixels of each bin."""
        counted = gains > 0
        bins = np.searchsorted(self._thresholds, scores[counted], side="right")
        sums: Floats = np.bincount(bins, gains[counted], len(self._gains)).astype(np.float64, copy=False)
        return sums
