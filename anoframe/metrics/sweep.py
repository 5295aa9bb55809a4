"""One threshold lowered through all scores: what it has caught whenever it reaches an anomalous one.

Every rank metric of the house is a short method of `Sweep`. A *positive* is an anomalous pixel or image, a *normal*
is any other. Between two positive scores a falling threshold catches normals only: the ROC curve is flat there, and
precision, F1 and IoU fall. So everything is known, without loss, from the state at the distinct scores of the
positives, which are few: the normals need only be counted, and that as all scores less the positives. Equal scores
are caught together, as one step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anoframe.metrics.checks import Labels, Scores
from anoframe.metrics.on_gpu import count_on_gpu, is_on_gpu, to_host

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

CHUNK = 2**22  # scores copied and sorted at a time
CHUNK_PER_THRESHOLD = 32  # or as many for each threshold, where that is more


class RocCurve(NamedTuple):
    """Corners of a curve over the false positive rate, from (0, 0) to (1, 1), straight in between."""

    fpr: Floats  # [k] rising, 0 to 1
    tpr: Floats  # [k] rising, 0 to 1: share of positives, or overlap averaged over regions


class PrCurve(NamedTuple):
    """Precision and recall at each distinct positive score, from the highest down."""

    recall: Floats  # [g] rising, to 1
    precision: Floats  # [g]
    thresholds: Scores  # [g] falling; a sample is caught if its score is at or above


@dataclass(frozen=True)
class Sweep:
    """State of a falling threshold at each of the g distinct positive scores."""

    thresholds: Scores  # [g] falling
    hits: Counts  # [g] positives at or above
    overlap: Floats  # [g] weighted share of the positives at or above; the recall where no weights were given
    false_above: Counts  # [g] normals above
    false_at: Counts  # [g] normals at or above
    normals: int  # all of them

    @property
    def positives(self) -> int:
        return int(self.hits[-1])

    def auroc(self) -> float:
        return _area(self.roc(), 1.0)

    def aupro(self, limit: float) -> float:
        return _area(self.pro(), limit) / limit

    def average_precision(self) -> float:
        recall, precision, _ = self.pr()
        return float(np.diff(recall, prepend=0.0) @ precision)

    def f1_max(self) -> float:
        return float((2 * self.hits / (self.hits + self.false_at + self.positives)).max())

    def iou_max(self) -> float:
        return float((self.hits / (self.false_at + self.positives)).max())

    def roc(self) -> RocCurve:
        return self._over_fpr(self.hits / self.positives)

    def pro(self) -> RocCurve:
        return self._over_fpr(self.overlap)

    def pr(self) -> PrCurve:
        return PrCurve(self.hits / self.positives, self.hits / (self.hits + self.false_at), self.thresholds)

    def _over_fpr(self, heights: Floats) -> RocCurve:
        """Two corners a threshold: along the normals above it, then up the straight line across its ties."""
        fpr = np.empty(2 * len(heights) + 2)
        fpr[0], fpr[1:-1:2], fpr[2:-1:2], fpr[-1] = 0, self.false_above, self.false_at, self.normals
        return RocCurve(fpr / self.normals, np.repeat(np.append(0.0, heights), 2))


def sweep_threshold(labels: Labels, scores: Scores, weights: Floats | None = None) -> Sweep | None:
    """The sweep over arrays of one shape, or None where one of the two classes is missing.

    `weights` holds one number a positive, in the order of `scores[labels]`. Memory: a chunk, and about 100 bytes a
    positive.
    """
    caught = to_host(scores[labels])
    if caught.size in (0, labels.size):
        return None
    order = np.argsort(caught)[::-1]
    caught = caught[order]
    ends = np.flatnonzero(np.append(caught[1:] != caught[:-1], True))  # the last of each run of equal scores
    hits = ends + 1
    overlap = hits if weights is None else np.cumsum(weights[order])[ends]
    thresholds = caught[ends]
    below, up_to = (counts[::-1] for counts in count_scores(scores, thresholds[::-1]))
    false_above, false_at = labels.size - up_to - np.append(0, hits[:-1]), labels.size - below - hits
    return Sweep(thresholds, hits, overlap / overlap[-1], false_above, false_at, labels.size - caught.size)


def count_scores(scores: Scores, thresholds: Scores) -> tuple[Counts, Counts]:
    """How many scores, of either class, lie below, and at or below, each of the rising, distinct `thresholds`.

    The one sort of all pixels, a chunk at a time. Each chunk is searched for every threshold: many thresholds take
    large chunks, so that searching stays cheap beside sorting. Memory: a chunk, and a copy of scores that lie in the
    host's memory with gaps.
    """
    if is_on_gpu(scores):
        return count_on_gpu(scores, thresholds)
    flat = scores.ravel(order="K")  # any order will do: no copy of an array without gaps
    below, up_to = np.zeros((2, thresholds.size), dtype=np.int64)
    chunk = np.empty(min(flat.size, max(CHUNK, CHUNK_PER_THRESHOLD * thresholds.size)), dtype=flat.dtype)
    for start in range(0, flat.size, chunk.size):
        part = chunk[: flat.size - start]
        part[:] = flat[start : start + chunk.size]
        part.sort()
        first = np.searchsorted(part, thresholds)
        tied = np.flatnonzero(part[np.minimum(first, part.size - 1)] == thresholds)  # few, where scores are floats
        below += first
        up_to += first
        up_to[tied] += np.searchsorted(part, thresholds[tied], side="right") - first[tied]
    return below, up_to


def _area(curve: RocCurve, limit: float) -> float:
    """Area under the straight lines from 0 to `limit`, by trapezoids; the last one is cut at the limit."""
    x, y = curve
    inside = int(np.searchsorted(x, limit, side="right"))
    if inside < len(x):
        slope = (y[inside] - y[inside - 1]) / (x[inside] - x[inside - 1])
        end = y[inside - 1] + slope * (limit - x[inside - 1])
        x, y = np.append(x[:inside], limit), np.append(y[:inside], end)
    return float(np.diff(x) @ (y[1:] + y[:-1]) / 2)
