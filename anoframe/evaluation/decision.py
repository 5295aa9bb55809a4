"""Threshold and decision: the single rule that test, predict, the report and embedding applications use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Threshold:
    """Thresholds of a detector, estimated on normal images that were held back from training.

    Attributes:
        image: an image with this score or a higher one is a defect.
        pixel: a pixel with this map value or a higher one is marked; None for a method without maps.
        false_positive_rate: requested share of normal images at or above each threshold.
        images: number of held-back images.
    """

    image: float
    pixel: float | None
    false_positive_rate: float
    images: int


def is_defect(scores: ArrayLike, limit: float) -> NDArray[np.bool_]:
    """Decide for each image score whether it is a defect, with the image threshold `limit`."""
    return np.asarray(np.asarray(scores) >= np.float32(limit))


def estimate_threshold(scores: Sequence[float], peaks: Sequence[float], rate: float) -> Threshold:
    """Estimate the thresholds from held-back normal images.

    Args:
        scores: [n], image scores.
        peaks: [n], maximum of each anomaly map; empty for a method without maps.
        rate: accepted false-positive rate, in (0, 1).
    """
    return Threshold(upper_bound(scores, rate), upper_bound(peaks, rate) if peaks else None, rate, len(scores))


def upper_bound(values: Sequence[float], rate: float) -> float:
    """Compute a bound that a new value of the same distribution stays below with probability `1 - rate` or more.

    It is just above the `ceil((n + 1)(1 - rate))`-th smallest of the `n` values (split conformal prediction; Vovk et
    al., 2005). If `n` is too small for the rate, it is just above the largest value, and a new value exceeds it with
    probability `1 / (n + 1)`.

    >>> upper_bound([3.0, 1.0, 2.0, 4.0], 0.5) > 3.0
    True
    """
    rank = math.ceil((len(values) + 1) * (1 - rate) - 1e-9)
    value = np.float32(sorted(values)[min(max(rank, 1), len(values)) - 1])
    return float(np.nextafter(value, np.float32(np.inf)))
