"""Sweep a threshold through all scores and count the positives and normals above it.

Every rank metric is a short method of `Sweep`. A *positive* is an anomalous pixel or image, a *normal* is any other.
Between two positive scores a falling threshold passes normals only: there the ROC curve is flat, and precision, F1 and
IoU fall. So the counts at the distinct scores of the positives, which are few, give every metric exactly. Normals are
counted as all scores minus the positives. Equal scores are one step.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anoframe.metrics.array_checks import Labels, Scores
from anoframe.metrics.gpu_counts import count_on_gpu, is_on_gpu, to_host
from anoframe.metrics.regions import region_weights

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

CHUNK = 2**22  # scores copied and sorted at a time
CHUNK_PER_THRESHOLD = 32  # a chunk holds at least this many scores per threshold
_THREADS = 2  # chunks at a time: as many copies in memory


class RocCurve(NamedTuple):
    """Corners of a piecewise linear curve over the false-positive rate, from (0, 0) to (1, 1)."""

    fpr: Floats  # [k] rising, 0 to 1
    tpr: Floats  # [k] rising, 0 to 1: share of positives, or overlap averaged over regions


class PrCurve(NamedTuple):
    """Precision and recall at each distinct positive score, from the highest score down."""

    recall: Floats  # [g] rising, to 1
    precision: Floats  # [g]
    thresholds: Scores  # [g] falling; a sample counts as anomalous if its score is at or above


@dataclass(frozen=True)
class Sweep:
    """Counts at each of the g distinct positive scores, from the highest score down."""

    thresholds: Scores  # [g] falling
    hits: Counts  # [g] positives at or above
    overlap: Floats  # [g] weighted share of the positives at or above; the recall if no weights were given
    false_above: Counts  # [g] normals above
    false_at: Counts  # [g] normals at or above
    normals: int  # number of all normals

    @property
    def positives(self) -> int:
        """Number of all positives."""
        return int(self.hits[-1])

    def auroc(self) -> float:
        """Area under the ROC curve."""
        return area_up_to(self.roc(), 1.0)

    def aupro(self, limit: float) -> float:
        """Area under the PRO curve up to a false-positive rate of `limit`, divided by `limit`."""
        return area_up_to(self.pro(), limit) / limit

    def average_precision(self) -> float:
        """Sum over thresholds of (gain in recall) x precision."""
        recall, precision, _ = self.pr()
        return float(np.diff(recall, prepend=0.0) @ precision)

    def f1_max(self) -> float:
        """Maximum F1 over all thresholds."""
        return float((2 * self.hits / (self.hits + self.false_at + self.positives)).max())

    def iou_max(self) -> float:
        """Maximum IoU over all thresholds."""
        return float((self.hits / (self.false_at + self.positives)).max())

    def roc(self) -> RocCurve:
        """ROC curve: recall over the false-positive rate."""
        return self._over_fpr(self.hits / self.positives)

    def pro(self) -> RocCurve:
        """PRO curve: weighted recall over the false-positive rate."""
        return self._over_fpr(self.overlap)

    def pr(self) -> PrCurve:
        """Precision-recall curve."""
        return PrCurve(self.hits / self.positives, self.hits / (self.hits + self.false_at), self.thresholds)

    def _over_fpr(self, heights: Floats) -> RocCurve:
        """Two corners per threshold: horizontal over the normals above it, then a straight line across its ties."""
        fpr = np.empty(2 * len(heights) + 2)
        fpr[0], fpr[1:-1:2], fpr[2:-1:2], fpr[-1] = 0, self.false_above, self.false_at, self.normals
        return RocCurve(fpr / self.normals, np.repeat(np.append(0.0, heights), 2))


def sweep_threshold(labels: Labels, scores: Scores, weights: Floats | None = None) -> Sweep | None:
    """Compute the sweep over arrays of the same shape; None if one of the two classes is missing.

    Memory: two chunks, and about 100 bytes per positive.

    Args:
        labels, scores: checked arrays (`array_checks`) of any shape.
        weights: [P], one per positive, in the order of `scores[labels]`; None weighs all alike.
    """
    positive_scores = to_host(scores[labels])
    if positive_scores.size in (0, labels.size):
        return None
    order = np.argsort(positive_scores)[::-1]
    positive_scores = positive_scores[order]
    # index of the last of each run of equal scores
    ends = np.flatnonzero(np.append(positive_scores[1:] != positive_scores[:-1], True))
    hits = ends + 1
    overlap = hits if weights is None else np.cumsum(weights[order])[ends]
    thresholds = positive_scores[ends]
    below, up_to = (counts[::-1] for counts in count_scores(scores, thresholds[::-1]))
    false_above, false_at = labels.size - up_to - np.append(0, hits[:-1]), labels.size - below - hits
    return Sweep(thresholds, hits, overlap / overlap[-1], false_above, false_at, labels.size - positive_scores.size)


def sweep_pixels(masks: Labels, maps: Scores, counted: Labels | None = None) -> Sweep | None:
    """Compute the sweep over all pixels of a category, with region weights for AUPRO.

    Every rank-based pixel metric and curve is read from it.

    Args:
        masks, maps: checked arrays [n, H, W].
        counted: [n, H, W], pixels to count, all of the anomalous ones among them; None counts all.
    """
    weights = region_weights(masks)
    if counted is not None:
        masks, maps = masks[counted], maps[counted]
    return sweep_threshold(masks, maps, weights)


def count_scores(scores: Scores, thresholds: Scores) -> tuple[Counts, Counts]:
    """Count the scores of both classes below, and at or below, each threshold.

    This is the only sort of all pixels; it is done in chunks, two at a time. Each chunk is searched for every
    threshold, so the size of a chunk grows with the number of thresholds: searching stays cheap compared with sorting.
    Memory: two chunks, and a copy of host arrays that are not contiguous.

    Args:
        scores: any shape, on the host or a GPU.
        thresholds: [g] rising, distinct.

    Returns:
        tuple: counts below, counts at or below; [g] each.
    """
    if is_on_gpu(scores):
        return count_on_gpu(scores, thresholds)
    flat = scores.ravel(order="K")  # memory order: no copy of a contiguous array
    if flat.size <= CHUNK:
        return _count_chunk(flat, thresholds)
    size = min(max(CHUNK, CHUNK_PER_THRESHOLD * thresholds.size), -(-flat.size // _THREADS))
    below, up_to = np.zeros((2, thresholds.size), dtype=np.int64)
    chunks = (flat[start : start + size] for start in range(0, flat.size, size))
    with ThreadPoolExecutor(_THREADS) as pool:  # NumPy sorts and searches outside the interpreter lock
        for first, last in pool.map(partial(_count_chunk, thresholds=thresholds), chunks):
            below += first
            up_to += last
    return below, up_to


def _count_chunk(scores: Scores, thresholds: Scores) -> tuple[Counts, Counts]:
    """Count the scores of one chunk `[k]`, as `count_scores` does."""
    if not scores.size:
        return np.zeros(thresholds.size, np.int64), np.zeros(thresholds.size, np.int64)
    chunk = np.sort(scores)
    below = np.searchsorted(chunk, thresholds)
    tied = np.flatnonzero(chunk[np.minimum(below, chunk.size - 1)] == thresholds)  # few for float scores
    up_to = below.copy()
    up_to[tied] = np.searchsorted(chunk, thresholds[tied], side="right")
    return below, up_to


def area_up_to(curve: RocCurve, limit: float) -> float:
    """Area under a piecewise linear curve from 0 to `limit`; the last trapezoid is cut at the limit."""
    x, y = curve
    inside = int(np.searchsorted(x, limit, side="right"))
    if inside < len(x):
        slope = (y[inside] - y[inside - 1]) / (x[inside] - x[inside - 1])
        end = y[inside - 1] + slope * (limit - x[inside - 1])
        x, y = np.append(x[:inside], limit), np.append(y[:inside], end)
    return float(np.diff(x) @ (y[1:] + y[:-1]) / 2)
