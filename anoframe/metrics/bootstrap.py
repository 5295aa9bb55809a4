"""Bootstrap intervals: the spread of a mean over seeds under other test images, or under other seeds.

Percentile intervals (Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13). A draw is represented by
the count of each image in it, so that all draws are computed at once, without copies and without a loop over draws.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

DRAWS = 2000
LEVEL = 0.95


def resample_images(labels: ArrayLike, rng: np.random.Generator, draws: int = DRAWS) -> Counts:
    """Draw test images with replacement; returns how often each draw contains each image. [draws, n]

    Normal and anomalous images are drawn separately, as many as there are of each, so that no draw lacks a class.

    Args:
        labels: [n], 1 for anomalous.
        rng: source of the draws.
        draws: number of draws.
    """
    anomalous = np.asarray(labels, dtype=bool)
    counts = np.zeros((draws, anomalous.size), dtype=np.int64)
    for label in (False, True):
        images = np.flatnonzero(anomalous == label)
        if images.size:
            chosen = rng.integers(0, images.size, (draws, images.size)) + images.size * np.arange(draws)[:, None]
            counts[:, images] = np.bincount(chosen.ravel(), minlength=draws * images.size).reshape(draws, -1)
    return counts


def metrics_per_draw(labels: ArrayLike, scores: ArrayLike, counts: Counts) -> dict[str, Floats]:
    """Compute `image_auroc`, `image_ap` and `image_f1max` of each draw: [draws] each.

    Defined as in `auroc`, `average_precision` and `f1`. Empty if one of the two classes is missing.
    Memory: a few arrays of [draws, n].

    Args:
        labels, scores: [n].
        counts: [draws, n], from `resample_images`.
    """
    anomalous, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    if anomalous.all() or not anomalous.any():
        return {}
    order = np.argsort(-values, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))  # equal scores are one step
    hits, false_alarms = (
        np.cumsum(counts[:, order] * (anomalous[order] == label), axis=1)[:, ends].astype(np.float64)
        for label in (True, False)
    )
    positives, normals = hits[:, -1:], false_alarms[:, -1:]
    called, more_hits = hits + false_alarms, np.diff(hits, axis=1, prepend=0)
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    outranked = np.diff(false_alarms, axis=1, prepend=0) * (hits - more_hits / 2)
    return {
        "image_auroc": (outranked / (positives * normals)).sum(axis=1),
        "image_ap": (more_hits / positives * precision).sum(axis=1),
        "image_f1max": (2 * hits / (called + positives)).max(axis=1),
    }


def mean_metrics_per_draw(labels: ArrayLike, scores: ArrayLike, counts: Counts) -> dict[str, Floats]:
    """Average the metrics of each draw over seeds: [draws] each. A draw contains the same images for every seed.

    Args:
        labels: [n].
        scores: [seeds, n].
        counts: [draws, n], from `resample_images`.
    """
    rows = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    metrics = [metrics_per_draw(labels, row, counts) for row in rows]
    return {name: np.mean([values[name] for values in metrics], axis=0) for name in metrics[0]}


def mean_per_draw(values: ArrayLike, rng: np.random.Generator, draws: int = DRAWS) -> Floats:
    """Draw `values` [n] with replacement; returns the mean of each draw. [draws]"""
    array = np.asarray(values, dtype=np.float64)
    return array[rng.integers(0, array.size, (draws, array.size))].mean(axis=1)


def interval(draws: ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """Return the central interval that contains the share `level` of the draws."""
    low, high = np.quantile(np.asarray(draws), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
