"""Bootstrap intervals: how far a mean over seeds would move with other test images, or with other seeds.

Percentile intervals (Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13). All draws are computed
at once, from how often each draw takes each image: nothing is copied and no draw is looped over.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

DRAWS = 2000
LEVEL = 0.95


def draw_images(labels: ArrayLike, rng: np.random.Generator, draws: int = DRAWS) -> Counts:
    """How often each draw takes each image: `[draws, n]`.

    Good images and defects are drawn apart, each with replacement and as many as there are, so that no draw lacks one
    of the two.

    Args:
        labels: `[n]`, 1 for a defect.
    """
    anomalous = np.asarray(labels, dtype=bool)
    counts = np.zeros((draws, anomalous.size), dtype=np.int64)
    for kind in (False, True):
        places = np.flatnonzero(anomalous == kind)
        if places.size:
            chosen = rng.integers(0, places.size, (draws, places.size)) + places.size * np.arange(draws)[:, None]
            counts[:, places] = np.bincount(chosen.ravel(), minlength=draws * places.size).reshape(draws, -1)
    return counts


def metrics_of_draws(labels: ArrayLike, scores: ArrayLike, counts: Counts) -> dict[str, Floats]:
    """`image_auroc`, `image_ap` and `image_f1max` of each draw, as `metrics.ranking` defines them: `[draws]` each.

    Empty where one of the two classes is missing. Memory: some arrays of `[draws, n]`.

    Args:
        labels, scores: `[n]`, as for `metrics.ranking`.
        counts: `[draws, n]`, how often a draw takes each image.
    """
    anomalous, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    if anomalous.all() or not anomalous.any():
        return {}
    order = np.argsort(-values, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))  # equal scores are caught together
    hits, false = (
        np.cumsum(counts[:, order] * (anomalous[order] == kind), axis=1)[:, ends].astype(np.float64)
        for kind in (True, False)
    )
    positives, normals = hits[:, -1:], false[:, -1:]
    caught, more_hits = hits + false, np.diff(hits, axis=1, prepend=0)
    precision = np.divide(hits, caught, out=np.zeros_like(hits), where=caught > 0)
    below = np.diff(false, axis=1, prepend=0) * (hits - more_hits / 2)
    return {
        "image_auroc": (below / (positives * normals)).sum(axis=1),
        "image_ap": (more_hits / positives * precision).sum(axis=1),
        "image_f1max": (2 * hits / (caught + positives)).max(axis=1),
    }


def draws_of_images(labels: ArrayLike, scores: ArrayLike, counts: Counts) -> dict[str, Floats]:
    """Means over seeds of the metrics of each draw: `[draws]` each. A draw takes the same images for every seed.

    Args:
        scores: `[seeds, n]`.
    """
    each = [metrics_of_draws(labels, one, counts) for one in np.atleast_2d(np.asarray(scores, dtype=np.float64))]
    return {name: np.mean([one[name] for one in each], axis=0) for name in each[0]}


def draws_of_values(values: ArrayLike, rng: np.random.Generator, draws: int = DRAWS) -> Floats:
    """Means of `values` `[n]` drawn with replacement: `[draws]`."""
    known = np.asarray(values, dtype=np.float64)
    return known[rng.integers(0, known.size, (draws, known.size))].mean(axis=1)


def interval(draws: ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """The two values that `level` of the draws lie between, as many below as above."""
    low, high = np.quantile(np.asarray(draws), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
