"""Per-region overlap (PRO): AUPRO, the PRO curve, and PRO of each image.

Masks are 0/1 or bool [n, H, W], maps are real [n, H, W], higher is more anomalous. Pass all images of a category at
once; normal images have an empty mask. ValueError for NaN, for different shapes or shapes other than [n, H, W], and for
mask values other than 0 and 1. None means "not available": no anomalous pixel, or no normal one.
Maps may be a torch tensor on a GPU; their pixels are then sorted there.
Memory beyond bool masks and the maps: two chunks of scores (`threshold_sweep.CHUNK`: 16 MiB of float32, or 128 bytes
per anomalous pixel if that is more), and about 100 bytes per anomalous pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anoframe.metrics.array_checks import Labels, Scores, as_maps, check_limit
from anoframe.metrics.gpu_counts import to_host
from anoframe.metrics.regions import inverse_areas
from anoframe.metrics.threshold_sweep import Counts, Floats, RocCurve, sweep_pixels

STANDARD_LIMIT = 0.3  # false-positive rate of the paper; the metric name `aupro` implies it
PER_IMAGE_THRESHOLDS = 200


def aupro(masks: ArrayLike, maps: ArrayLike, limit: float = STANDARD_LIMIT) -> float | None:
    """Area under the per-region-overlap curve up to a false-positive rate of `limit`, divided by `limit`; in [0, 1].

    All regions of the masks (8-connected) have the same weight, whatever their size. Exact: every distinct score is a
    threshold. ValueError also for a limit outside (0, 1].
    Source: Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 129, 2021, on the per-region overlap.

    >>> mask = [[[1, 0, 0, 0, 0, 0]]]
    >>> aupro(mask, [[[0.9, 0.8, 0.5, 0.5, 0.5, 0.1]]])
    1.0
    >>> aupro(mask, [[[0.5, 0.5, 0.5, 0.5, 0.5, 0.5]]])  # constant map: half of the limit
    0.15
    """
    check_limit(limit)
    sweep = sweep_pixels(*as_maps(masks, maps))
    return None if sweep is None else sweep.aupro(limit)


def pro_curve(masks: ArrayLike, maps: ArrayLike) -> RocCurve | None:
    """Corners of the whole PRO curve: overlap averaged over regions, over the false-positive rate."""
    sweep = sweep_pixels(*as_maps(masks, maps))
    return None if sweep is None else sweep.pro()


def pro_per_image(masks: ArrayLike, maps: ArrayLike) -> float | None:
    """PRO of each anomalous image by itself, averaged over images, in [0, 1], as RD4AD and its successors publish it.

    Each image has 200 thresholds of its own, evenly spaced from its minimum to its maximum, the maximum excluded; a
    pixel counts if it is *above* the threshold. The area is taken over the thresholds with a false-positive rate
    below 0.3, and divided by the largest of these rates. If that rate is 0, the value is the largest overlap among
    them; if no threshold is left, it is 0. So a perfect map has 1 and a constant map 0. Values are higher than those of
    `aupro`: each image has its own thresholds, and normal images do not count. None also for an infinite score.
    Source: Deng & Li, "Anomaly Detection via Reverse Distillation", CVPR 2022, the authors' evaluation code.

    >>> pro_per_image([[[1, 1, 0, 0]]], [[[0.9, 0.0, 0.1, 0.0]]])
    0.5
    """
    return mean_pro_per_image(*as_maps(masks, maps))


def mean_pro_per_image(masks: Labels, maps: Scores, counted: Labels | None = None) -> float | None:
    """Compute `pro_per_image` of checked arrays. Memory: a few float64 maps.

    Args:
        masks, maps: [n, H, W].
        counted: [n, H, W], pixels to count, all of the anomalous ones among them; None counts all.
    """
    inside = [np.ones(mask.shape, bool) for mask in masks] if counted is None else counted
    rows = [i for i, mask in enumerate(masks) if mask.any() and not mask[inside[i]].all()]
    values = [_pro_of_image(masks[i], to_host(maps[i]).astype(np.float64), inside[i]) for i in rows]
    return float(np.mean(values)) if values and np.isfinite(values).all() else None


def _pro_of_image(mask: Labels, scores: Floats, inside: Labels) -> float:
    low, high = scores[inside].min(), scores[inside].max()
    if not np.isfinite(high - low):
        return np.nan
    below = _count_thresholds_below(scores, low, high)
    below_defect, weights = below[mask], inverse_areas(mask)
    false_alarms = _sum_above(below[inside]) - _sum_above(below_defect)  # [200] falling, like the overlap
    fpr = false_alarms / (np.count_nonzero(inside) - below_defect.size)
    overlap = _sum_above(below_defect, weights) / weights.sum()
    kept = fpr < STANDARD_LIMIT
    if not kept.any():
        return 0.0
    x, y = fpr[kept][::-1], overlap[kept][::-1]
    return float(np.diff(x) @ (y[1:] + y[:-1]) / 2 / x[-1]) if x[-1] else float(y[-1])


def _count_thresholds_below(scores: Floats, low: float, high: float) -> Counts:
    """Count, for each score of an image, how many of the image's thresholds are below it."""
    steps = scores - low
    steps *= PER_IMAGE_THRESHOLDS  # before the division, so that rounding does not lift a score above its own threshold
    steps /= (high - low) or 1.0
    np.ceil(steps, out=steps)
    np.minimum(steps, PER_IMAGE_THRESHOLDS, out=steps)
    return steps.astype(np.int64)


def _sum_above(below: Counts, weights: Floats | None = None) -> NDArray[Any]:
    """Count, or sum the weights of, the pixels above each threshold. [200]

    Args:
        below: [P], for each pixel the number of thresholds below it.
        weights: [P].
    """
    counts = np.bincount(below, weights, PER_IMAGE_THRESHOLDS + 1)
    return counts[::-1].cumsum()[::-1][1:]
