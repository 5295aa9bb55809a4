"""Metrics of anomaly maps against masks: AUPRO, per-image PRO, the best IoU.

Masks are 0/1 or bool [n, H, W], maps real [n, H, W], higher is more anomalous; all images of a category at once, good
ones with an empty mask. ValueError for NaN, for shapes that differ or are not [n, H, W], for mask values other than 0
and 1. None means "not available": no anomalous pixel, or no normal one.
Maps may be a torch tensor on a GPU, and then their pixels are sorted there.
Memory beyond bool masks and the maps: a chunk of scores (`sweep.CHUNK`: 16 MiB of float32, or 128 bytes an anomalous
pixel where that is more), and about 100 bytes an anomalous pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from anoframe.metrics.checks import Labels, Scores, as_maps, check_limit
from anoframe.metrics.on_gpu import to_host
from anoframe.metrics.sweep import Counts, Floats, RocCurve, Sweep, sweep_threshold

EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)
STANDARD_LIMIT = 0.3  # of the false positive rate, as in the paper: what the name `aupro` means
PER_IMAGE_THRESHOLDS = 200


def aupro(masks: ArrayLike, maps: ArrayLike, limit: float = STANDARD_LIMIT) -> float | None:
    """Area under the per-region-overlap curve up to a false positive rate of `limit`, divided by `limit`; in [0, 1].

    Every region of a mask (8-connected) counts alike, however large. Exact: every distinct score is a threshold.
    ValueError also for a limit outside (0, 1].
    Source: Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 129, 2021, on the per-region overlap.

    >>> mask = [[[1, 0, 0, 0, 0, 0]]]
    >>> aupro(mask, [[[0.9, 0.8, 0.5, 0.5, 0.5, 0.1]]])
    1.0
    >>> aupro(mask, [[[0.5, 0.5, 0.5, 0.5, 0.5, 0.5]]])  # half of the limit: a straight line
    0.15
    """
    check_limit(limit)
    sweep = sweep_pixels(*as_maps(masks, maps))
    return None if sweep is None else sweep.aupro(limit)


def pro_curve(masks: ArrayLike, maps: ArrayLike) -> RocCurve | None:
    """Corners of the whole curve whose area `aupro` takes: mean overlap of the regions against false positive rate."""
    sweep = sweep_pixels(*as_maps(masks, maps))
    return None if sweep is None else sweep.pro()


def pro_per_image(masks: ArrayLike, maps: ArrayLike) -> float | None:
    """PRO of each anomalous image by itself, averaged over them, in [0, 1]: what RD4AD and its successors publish.

    An image has 200 thresholds, evenly from its own minimum up to, and without, its maximum; a pixel is caught *above*
    one. The area is taken over the thresholds with a false positive rate below 0.3, and divided by the largest of these
    rates. Where that is 0 it is the best overlap without a false alarm, where there is none it is 0: a perfect map has
    1, a constant one 0. Kinder than `aupro`: each image has thresholds of its own, and good images do not count. None
    also for an infinite score.
    Source: Deng & Li, "Anomaly Detection via Reverse Distillation", CVPR 2022, the authors' evaluation code.

    >>> pro_per_image([[[1, 1, 0, 0]]], [[[0.9, 0.0, 0.1, 0.0]]])
    0.5
    """
    return mean_of_images(*as_maps(masks, maps))


def mean_of_images(masks: Labels, maps: Scores) -> float | None:
    """`pro_per_image` of arrays that are checked. Memory: a few float64 maps."""
    rows = [i for i, mask in enumerate(masks) if mask.any() and not mask.all()]
    values = [_pro_of_image(masks[i], to_host(maps[i]).astype(np.float64)) for i in rows]
    return float(np.mean(values)) if values and np.isfinite(values).all() else None


def _pro_of_image(mask: Labels, scores: Floats) -> float:
    low, high = scores.min(), scores.max()
    if not np.isfinite(high - low):
        return np.nan
    above = _thresholds_below(scores, low, high)
    defect, weights = above[mask], _inverse_areas(mask)
    alarms = _caught(above.ravel()) - _caught(defect)  # [200] falling, as the overlap
    fpr, overlap = alarms / (mask.size - defect.size), _caught(defect, weights) / weights.sum()
    kept = fpr < STANDARD_LIMIT
    if not kept.any():
        return 0.0
    x, y = fpr[kept][::-1], overlap[kept][::-1]
    return float(np.diff(x) @ (y[1:] + y[:-1]) / 2 / x[-1]) if x[-1] else float(y[-1])


def _thresholds_below(scores: Floats, low: float, high: float) -> Counts:
    """Above how many of the thresholds of an image each of its scores is."""
    steps = scores - low
    steps *= PER_IMAGE_THRESHOLDS  # before the division, so that rounding does not lift a score above its own threshold
    steps /= (high - low) or 1.0
    np.ceil(steps, out=steps)
    np.minimum(steps, PER_IMAGE_THRESHOLDS, out=steps)
    return steps.astype(np.int64)


def _caught(above: Counts, weights: Floats | None = None) -> NDArray[Any]:
    """How many pixels, or what weight of them, lie above each threshold."""
    counts = np.bincount(above, weights, PER_IMAGE_THRESHOLDS + 1)
    return counts[::-1].cumsum()[::-1][1:]


def iou_max(masks: ArrayLike, maps: ArrayLike) -> float | None:
    """The best IoU of the anomalous pixels of all images together, in (0, 1].

    An oracle: the threshold is chosen on the masks it is measured with. It is the one of the best pixel F1, as
    IoU = F1 / (2 - F1).
    Source: Zhang et al., "Learning Feature Inversion for Multi-class Anomaly Detection", arXiv:2404.10760 (mIoU-max).

    >>> iou_max([[[1, 1, 0, 0]]], [[[0.9, 0.4, 0.5, 0.1]]])
    0.6666666666666666
    """
    sweep = sweep_pixels(*as_maps(masks, maps))
    return None if sweep is None else sweep.iou_max()


def sweep_pixels(masks: Labels, maps: Scores) -> Sweep | None:
    """The threshold sweep over all pixels of a category, from which every rank-based pixel metric is read."""
    return sweep_threshold(masks, maps, region_weights(masks))


def region_weights(masks: Labels) -> Floats:
    """One over the area of its region, for each anomalous pixel in the order of `masks[masks]`. [P]

    With these weights the share of positives caught is the overlap averaged over regions.
    """
    weights = [_inverse_areas(mask) for mask in masks if mask.any()]
    return np.concatenate(weights) if weights else np.empty(0)


def _inverse_areas(mask: Labels) -> Floats:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    mask = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # labelling takes time for empty pixels, too
    regions, _ = ndimage.label(mask, structure=EIGHT_CONNECTED)
    region = regions[mask]
    return 1.0 / np.bincount(region)[region]
