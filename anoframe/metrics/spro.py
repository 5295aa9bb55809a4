"""Saturated per-region overlap (sPRO): the metric of MVTec LOCO AD, for defects that have no definite extent.

A missing part can be marked anywhere in a large region. So each region has a saturation area: covering that many of its
pixels counts as finding all of it. Regions of one image may overlap; a pixel is normal if it is in none of them.
With a saturation area of each region's own area, sPRO is the per-region overlap of `anoframe.metrics.aupro`.
Source: Bergmann et al., "Beyond Dents and Scratches: Logical Constraints in Unsupervised Anomaly Detection and
Localization", IJCV 130, 2022.

Maps are real [n, H, W] at the size of the masks, higher is more anomalous. `regions` has n sequences of
`(mask, saturation area in pixels)`, mask bool [H, W]; it is empty for a normal image. ValueError for NaN, for other
shapes, for a region without a pixel, and for a saturation area that is not positive. A larger one than its region is
cut to it. None means "not available": no region, or no normal pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from anoframe.metrics.array_checks import Labels, Scores, as_labels, as_scores, check_limit
from anoframe.metrics.gpu_counts import to_host
from anoframe.metrics.threshold_sweep import Floats, RocCurve, Sweep, sweep_threshold

LOCO_LIMIT = 0.05  # false-positive rate of the main results of the paper

Regions = Sequence[Sequence[tuple[ArrayLike, float]]]


def auspro(regions: Regions, maps: ArrayLike, limit: float = LOCO_LIMIT) -> float | None:
    """Area under the sPRO curve up to a false-positive rate of `limit`, divided by `limit`; in [0, 1].

    Exact: every distinct score is a threshold. ValueError also for a limit outside (0, 1].

    >>> region = [[1, 1, 1, 1, 0, 0]]
    >>> auspro([[(region, 2)]], [[[0.9, 0.8, 0.1, 0.1, 0.5, 0.2]]])  # two of four pixels are enough
    1.0
    >>> auspro([[(region, 4)]], [[[0.9, 0.8, 0.1, 0.1, 0.5, 0.2]]])
    0.5
    """
    check_limit(limit)
    sweep = _sweep(regions, maps)
    return None if sweep is None else sweep.aupro(limit)


def spro_curve(regions: Regions, maps: ArrayLike) -> RocCurve | None:
    """Corners of the whole sPRO curve: saturated overlap averaged over regions, over the false-positive rate."""
    sweep = _sweep(regions, maps)
    return None if sweep is None else sweep.pro()


def _sweep(regions: Regions, maps: ArrayLike) -> Sweep | None:
    scores = as_scores(maps)
    if scores.ndim != 3 or len(regions) != len(scores):
        raise ValueError(f"maps must be [n, H, W], one for each of {len(regions)} images; got {tuple(scores.shape)}")
    labels = np.zeros(tuple(scores.shape), dtype=bool)
    weights = []
    for image, image_regions in enumerate(regions):
        labels[image], gains = region_gains(image_regions, to_host(scores[image]))
        weights.append(gains[labels[image]])
    return sweep_threshold(labels, scores, np.concatenate(weights) if weights else np.empty(0))


def region_gains(regions: Sequence[tuple[ArrayLike, float]], scores: Scores) -> tuple[Labels, Floats]:
    """Gain of the summed overlap of the regions of one image by each pixel, when a threshold falls through the scores.

    Args:
        regions: mask and saturation area of each.
        scores: [H, W], checked.

    Returns:
        tuple: whether a pixel lies in any region, and its gain, 0 outside of the regions; [H, W] each.
    """
    labels, gains = np.zeros(scores.shape, dtype=bool), np.zeros(scores.shape)
    for mask, saturation in regions:
        region = _check_region(mask, saturation, scores.shape)
        gains[region] += _saturating_weights(scores[region], saturation)
        labels |= region
    return labels, gains


def _check_region(mask: ArrayLike, saturation: float, shape: tuple[int, ...]) -> Labels:
    region = as_labels(mask)
    if region.shape != shape:
        raise ValueError(f"the mask of a region must have the shape of its map, {shape}; got {region.shape}")
    if not region.any():
        raise ValueError("a region must have at least one pixel; leave out empty masks")
    if not saturation > 0:
        raise ValueError(f"a saturation area must be positive; got {saturation!r}")
    return region


def _saturating_weights(scores: Scores, saturation: float) -> Floats:
    """Gain of the overlap of one region by each of its pixels, when a threshold falls through their scores.

    The pixels of the highest scores share an overlap of 1, the others gain nothing. Summed over the pixels above a
    threshold, the gains are min(pixels / saturation area, 1). The order of equal scores does not matter, because they
    are always summed together.

    Args:
        scores: [P], of the pixels of the region.
        saturation: area in pixels.
    """
    covered = np.minimum(np.arange(scores.size + 1) / min(saturation, scores.size), 1.0)
    weights = np.empty(scores.size)
    weights[np.argsort(scores)[::-1]] = np.diff(covered)
    return weights
