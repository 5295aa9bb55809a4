"""Curves of a category: exact, then thinned to the number of points that a chart needs."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from anoframe.metrics.threshold_sweep import Floats, PrCurve, RocCurve, Sweep

MAX_POINTS = 200
Curve = dict[str, list[float]]  # "x" and "y", of equal length, all in [0, 1]
_MAX_EXACT = 2500  # points above which a curve is resampled before the method of Visvalingam, whose steps are slow
_DIGITS = 6


def category_curves(images: Sweep | None, pixels: Sweep | None) -> dict[str, Curve | None]:
    """Compute the curves behind the metrics of a category, each of at most 200 points.

    The area under the straight lines of a curve is its metric (AUROC, average precision, AUPRO up to its limit) to
    within 1e-3.

    Args:
        images, pixels: the threshold sweeps of the metrics, or None if they are not available.

    Returns:
        `roc`, `pr`, `pro`, `pixel_roc`, `pixel_pr` -> `{"x": [...], "y": [...]}`, or None if not available.
    """
    return {
        "roc": _thinned(images.roc()) if images else None,
        "pr": _thinned(_steps(images.pr())) if images else None,
        "pro": _thinned(pixels.pro()) if pixels else None,
        "pixel_roc": _thinned(pixels.roc()) if pixels else None,
        "pixel_pr": _thinned(_steps(pixels.pr())) if pixels else None,
    }


def thin(x: Floats, y: Floats, count: int = MAX_POINTS) -> NDArray[np.int64]:
    """Return the rising indices of the `count` points that determine the shape of a line most, with both ends.

    Visvalingam's method: repeatedly remove the point whose triangle with its two neighbours is the smallest, so
    corners stay. A line of more than 2500 points is first reduced to points spread evenly over its length.
    """
    kept = _resample(x, y)
    return kept[_visvalingam(x[kept], y[kept], count)]


def _thinned(line: RocCurve) -> Curve:
    x, y = line
    kept = thin(x, y)
    return {"x": np.round(x[kept], _DIGITS).tolist(), "y": np.round(y[kept], _DIGITS).tolist()}


def _steps(curve: PrCurve) -> RocCurve:
    """Return recall and precision as x and y of a staircase with two corners per threshold.

    Precision is constant over each gain in recall, as in the definition of average precision.
    """
    recall = np.repeat(np.append(0.0, curve.recall), 2)[1:-1]
    return RocCurve(recall, np.repeat(curve.precision, 2))


def _resample(x: Floats, y: Floats) -> NDArray[np.int64]:
    """Return all indices, or those of about `_MAX_EXACT` points spread evenly over the length of the line."""
    if len(x) <= _MAX_EXACT:
        return np.arange(len(x))
    length = np.append(0.0, np.cumsum(np.hypot(np.diff(x), np.diff(y))))
    marks = np.linspace(0, length[-1], _MAX_EXACT)
    return np.unique(np.append(np.searchsorted(length, marks[:-1]), len(x) - 1))


def _visvalingam(x: Floats, y: Floats, count: int) -> NDArray[np.int64]:
    before, after = list(range(-1, len(x) - 1)), list(range(1, len(x) + 1))
    xs, ys = x.tolist(), y.tolist()

    def area(i: int) -> float:
        a, b = before[i], after[i]
        return abs((xs[a] - xs[i]) * (ys[b] - ys[i]) - (xs[b] - xs[i]) * (ys[a] - ys[i]))

    areas = {i: area(i) for i in range(1, len(x) - 1)}
    queue = [(size, i) for i, size in areas.items()]
    heapq.heapify(queue)
    while len(areas) + 2 > count and queue:
        size, i = heapq.heappop(queue)
        if areas.get(i) != size:
            continue  # outdated: the point is removed, or its neighbours have changed
        del areas[i]
        after[before[i]], before[after[i]] = after[i], before[i]
        for j in (before[i], after[i]):
            if j in areas:  # never below the last removed area, so that a spike is not removed from its sides
                areas[j] = max(area(j), size)
                heapq.heappush(queue, (areas[j], j))
    return np.array([0, *sorted(areas), len(x) - 1])
