"""Calibration of class probabilities: expected calibration error, and the table of a reliability diagram.

Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2. The confidence of a prediction is
its largest probability; bins have equal width, and the error weights them by their number of predictions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class ReliabilityBin(NamedTuple):
    """Predictions whose confidence lies in (low, high]; `accuracy` and `confidence` are means, None without any."""

    low: float
    high: float
    images: int
    accuracy: float | None
    confidence: float | None


def expected_calibration_error(probs: ArrayLike, labels: ArrayLike, bins: int = 15) -> float | None:
    """Mean over predictions of |accuracy - confidence| of their bin, in [0, 1]; None without predictions.

    Args:
        probs: `[N, C]`, probabilities of all classes.
        labels: `[N]`, positions of the true classes; a number outside of [0, C) counts as a wrong prediction.
        bins: number of bins of equal width over (0, 1].

    Raises:
        ValueError: other shapes, a probability outside of [0, 1] or NaN, or no bin.

    >>> round(expected_calibration_error([[0.8, 0.2], [0.4, 0.6]], [0, 0]), 6)
    0.4
    """
    table = reliability_table(probs, labels, bins)
    total = sum(row.images for row in table)
    if not total:
        return None
    gaps = [row.images * abs(row.accuracy - row.confidence) for row in table if row.images]  # type: ignore[operator]
    return float(sum(gaps) / total)


def reliability_table(probs: ArrayLike, labels: ArrayLike, bins: int = 15) -> list[ReliabilityBin]:
    """Compute the bins of a reliability diagram; arguments and errors as `expected_calibration_error`.

    >>> [row.images for row in reliability_table([[0.9, 0.1], [0.3, 0.7]], [0, 1], bins=2)]
    [0, 2]
    """
    values, truth = _check(probs, labels, bins)
    confidence, correct = values.max(1, initial=0.0), values.argmax(1) == truth if len(truth) else truth == 0
    places = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    edges = np.linspace(0, 1, bins + 1)
    rows = []
    for place in range(bins):
        chosen = places == place
        count = int(chosen.sum())
        means = (float(correct[chosen].mean()), float(confidence[chosen].mean())) if count else (None, None)
        rows.append(ReliabilityBin(float(edges[place]), float(edges[place + 1]), count, *means))
    return rows


def _check(probs: ArrayLike, labels: ArrayLike, bins: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    values, truth = np.asarray(probs, np.float64), np.asarray(labels)
    if values.ndim != 2 or truth.shape != values.shape[:1]:
        raise ValueError(f"probs must be [N, C] and labels [N]; got {list(values.shape)} and {list(truth.shape)}")
    if values.size and not (values.min() >= 0 and values.max() <= 1 + 1e-6):  # False for NaN too
        raise ValueError("probs must lie in [0, 1]: apply a softmax to logits first")
    if bins < 1:
        raise ValueError(f"bins must be 1 or more; got {bins}")
    return np.minimum(values, 1.0), truth.astype(np.int64)
