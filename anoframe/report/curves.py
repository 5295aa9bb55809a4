"""Curves of a category, exact and then thinned to what a drawing needs."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from anoframe.metrics.sweep import Floats, PrCurve, RocCurve, Sweep

MOST_POINTS = 200
Curve = dict[str, list[float]]  # "x" and "y", of one length, all in [0, 1]
_FIRST_PASS = 8000  # points that the careful thinning starts from
_DIGITS = 6


def category_curves(images: Sweep | None, pixels: Sweep | None) -> dict[str, Curve | None]:
    """The curves behind the metrics of a category, each of at most 200 points.

    The area under a curve's straight lines is its metric (AUROC, average precision, AUPRO once cut at its limit) to
    within 1e-3.

    Args:
        images, pixels: the threshold sweeps that the metrics were read from, or None where they are not available.

    Returns:
        `roc`, `pr`, `pro`, `pixel_roc`, `pixel_pr` -> `{"x": [...], "y": [...]}`, or None where it is not available.
    """
    return {
        "roc": _drawn(images.roc()) if images else None,
        "pr": _drawn(_steps(images.pr())) if images else None,
        "pro": _drawn(pixels.pro()) if pixels else None,
        "pixel_roc": _drawn(pixels.roc()) if pixels else None,
        "pixel_pr": _drawn(_steps(pixels.pr())) if pixels else None,
    }


def thin(x: Floats, y: Floats, count: int = MOST_POINTS) -> NDArray[np.int64]:
    """Rising indices of the `count` points that matter most to the shape of a line; both ends are kept.

    Visvalingam's method: again and again the point goes whose triangle with its two neighbours is the smallest, so
    corners stay. A very long line is first reduced to points evenly spread over its length.
    """
    kept = _spread(x, y)
    return kept[_visvalingam(x[kept], y[kept], count)]


def _drawn(line: RocCurve) -> Curve:
    x, y = line
    kept = thin(x, y)
    return {"x": np.round(x[kept], _DIGITS).tolist(), "y": np.round(y[kept], _DIGITS).tolist()}


def _steps(curve: PrCurve) -> RocCurve:
    """Recall and precision as x and y. Precision is held over each gain in recall, as average precision has it:
    stairs with two corners a threshold.
    """
    recall = np.repeat(np.append(0.0, curve.recall), 2)[1:-1]
    return RocCurve(recall, np.repeat(curve.precision, 2))


def _spread(x: Floats, y: Floats) -> NDArray[np.int64]:
    """All indices, or those of about `_FIRST_PASS` points evenly spread over the length of the line."""
    if len(x) <= _FIRST_PASS:
        return np.arange(len(x))
    length = np.append(0.0, np.cumsum(np.hypot(np.diff(x), np.diff(y))))
    marks = np.linspace(0, length[-1], _FIRST_PASS)
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
            continue  # gone already, or its neighbours have changed
        del areas[i]
        after[before[i]], before[after[i]] = after[i], before[i]
        for j in (before[i], after[i]):
            if j in areas:  # never less than what went before it: a spike is not eaten away from its sides
                areas[j] = max(area(j), size)
                heapq.heappush(queue, (areas[j], j))
    return np.array([0, *sorted(areas), len(x) - 1])
