"""Metrics of anomaly maps against masks: AUPRO, the best IoU.

Masks are 0/1 or bool [n, H, W], maps real [n, H, W], higher is more anomalous; all images of a category at once, good
ones with an empty mask. ValueError for NaN, for shapes that differ or are not [n, H, W], for mask values other than 0
and 1. None means "not available": no anomalous pixel, or no normal one.
Maps may be a torch tensor on a GPU, and then their pixels are sorted there.
Memory beyond bool masks and the maps: a chunk of scores (`sweep.CHUNK`: 16 MiB of float32, or 128 bytes an anomalous
pixel where that is more), and about 100 bytes an anomalous pixel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from anoframe.metrics.checks import Labels, Scores, as_maps, check_limit
from anoframe.metrics.sweep import Floats, RocCurve, Sweep, sweep_threshold

EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)
STANDARD_LIMIT = 0.3  # of the false positive rate, as in the paper: what the name `aupro` means


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
