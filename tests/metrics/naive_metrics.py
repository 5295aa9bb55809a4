"""Naive implementations of the metrics, straight from their definitions; they share no code with the package."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def counts_per_threshold(labels, scores):
    """Yield (true positives, false positives) at every distinct score, from the highest down."""
    for threshold in sorted(set(scores.ravel().tolist()), reverse=True):
        decided = scores >= threshold
        yield int((decided & labels).sum()), int((decided & ~labels).sum())


def auroc(labels, scores):
    wins = [(p > n) + 0.5 * (p == n) for p in scores[labels] for n in scores[~labels]]
    return sum(wins) / len(wins)


def average_precision(labels, scores):
    total, before = 0.0, 0
    for tp, fp in counts_per_threshold(labels, scores):
        total += (tp - before) / labels.sum() * tp / (tp + fp)
        before = tp
    return total


def f1_max(labels, scores):
    return max(2 * tp / (tp + fp + labels.sum()) for tp, fp in counts_per_threshold(labels, scores))


def iou_max(labels, scores):
    return max(tp / (fp + labels.sum()) for tp, fp in counts_per_threshold(labels, scores))


def regions(mask):
    """Return the 8-connected regions of one mask, each a list of pixels, by flood fill."""
    remaining = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    result = []
    while remaining:
        region, edge = [], [remaining.pop()]
        while edge:
            y, x = edge.pop()
            region.append((y, x))
            neighbours = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & remaining
            remaining -= neighbours
            edge += neighbours
        result.append(region)
    return result


def pro_points(masks, maps):
    """Return (false-positive rate, overlap averaged over regions) at every distinct score, after (0, 0)."""
    all_regions = [(image, region) for image, mask in enumerate(masks) for region in regions(mask)]
    points = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        decided = maps >= threshold
        overlaps = [np.mean([decided[image][pixel] for pixel in region]) for image, region in all_regions]
        points.append((decided[~masks].mean(), float(np.mean(overlaps))))
    return points


def aupro(masks, maps, limit):
    points = pro_points(masks, maps)
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 > x0 and x0 < limit:
            end = min(x1, limit)
            y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
            area += (end - x0) * (y0 + y_end) / 2
    return area / limit


def pro_per_image(masks, maps):
    """PRO per image of integer scores, for which threshold comparisons are exact; None if no image has both classes."""
    values = []
    for mask, scores in zip(masks, maps, strict=True):
        if mask.any() and not mask.all():
            points = sorted(pro_points_of_image(mask, scores))
            values.append(area_by_largest_rate([(x, y) for x, y in points if x < 0.3]))
    return sum(values) / len(values) if values else None


def pro_points_of_image(mask, scores):
    low, span = scores.min(), scores.max() - scores.min()
    for k in range(200):
        decided = (scores - low) * 200 > k * span
        yield decided[~mask].mean(), float(np.mean([np.mean([decided[pixel] for pixel in r]) for r in regions(mask)]))


def area_by_largest_rate(points):
    if not points:
        return 0.0
    largest = points[-1][0]
    if largest == 0:
        return points[-1][1]
    return sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(points)) / largest
