"""From a raw score to a decision: the one rule that test, predict, report and whoever embeds a detector share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Threshold:
    """Where a detector draws the line, learned from normal images that it did not learn from.

    Attributes:
        image: an image with this score or a higher one is a defect.
        pixel: a pixel with this value or a higher one is marked.
        false_positive_rate: share of normal images that was asked to lie at or above either.
        images: how many held-back images it was taken from.
    """

    image: float
    pixel: float
    false_positive_rate: float
    images: int


def is_defect(scores: ArrayLike, limit: float) -> NDArray[np.bool_]:
    """Whether images with such scores are defects, where the threshold for images is `limit`."""
    return np.asarray(np.asarray(scores) >= np.float32(limit))


def threshold_of(scores: Sequence[float], peaks: Sequence[float], rate: float) -> Threshold:
    """The threshold from the scores of held-back normal images and the largest values of their maps."""
    return Threshold(upper_bound(scores, rate), upper_bound(peaks, rate), rate, len(scores))


def upper_bound(values: Sequence[float], rate: float) -> float:
    """Just above what a further value of the same kind stays below with probability `1 - rate` or more.

    That is the `ceil((n + 1)(1 - rate))`-th smallest of `n` values (split conformal prediction; Vovk et al., 2005).
    Where `n` is too small for the rate it is the largest, and a further one exceeds it with probability `1 / (n + 1)`.

    >>> upper_bound([3.0, 1.0, 2.0, 4.0], 0.5) > 3.0
    True
    """
    rank = math.ceil((len(values) + 1) * (1 - rate) - 1e-9)
    value = np.float32(sorted(values)[min(max(rank, 1), len(values)) - 1])
    return float(np.nextafter(value, np.float32(np.inf)))
