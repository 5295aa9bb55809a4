"""Expected calibration error against counting, and the bins of a reliability diagram."""

from __future__ import annotations

import numpy as np
import pytest

from anoframe.metrics.calibration import expected_calibration_error, reliability_table


def naive_error(probs, labels, bins):
    """Sum over bins of their share times |accuracy - confidence|, image by image."""
    total = 0.0
    for place in range(bins):
        low, high = place / bins, (place + 1) / bins
        chosen = [i for i, row in enumerate(probs) if low < max(row) <= high]
        if chosen:
            accuracy = np.mean([np.argmax(probs[i]) == labels[i] for i in chosen])
            confidence = np.mean([max(probs[i]) for i in chosen])
            total += len(chosen) / len(probs) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_against_counting(bins):
    rng = np.random.default_rng(bins)
    probs = rng.dirichlet(np.ones(4), 200)
    labels = rng.integers(0, 4, 200)
    assert expected_calibration_error(probs, labels, bins) == pytest.approx(naive_error(probs, labels, bins))
    table = reliability_table(probs, labels, bins)
    assert sum(row.images for row in table) == 200
    assert (table[0].low, table[-1].high) == (0, 1)


def test_right_and_certain_is_calibrated_and_wrong_and_certain_is_not():
    assert expected_calibration_error(np.eye(3), [0, 1, 2]) == 0
    assert expected_calibration_error(np.eye(3), [1, 2, 0]) == 1


def test_a_label_of_no_known_class_is_a_wrong_prediction():
    assert expected_calibration_error([[1.0, 0.0]], [-1]) == 1


def test_no_prediction_is_not_available():
    assert expected_calibration_error(np.zeros((0, 3)), np.zeros(0)) is None


@pytest.mark.parametrize(
    ("probs", "labels", "bins", "message"),
    [
        ([[2.0, 0.0]], [0], 15, "softmax"),
        ([[float("nan"), 0.0]], [0], 15, "softmax"),
        ([0.5, 0.5], [0], 15, r"\[N, C\]"),
        ([[0.5, 0.5]], [0, 1], 15, r"\[N, C\]"),
        ([[0.5, 0.5]], [0], 0, "bins"),
    ],
)
def test_wrong_arguments_are_errors(probs, labels, bins, message):
    with pytest.raises(ValueError, match=message):
        expected_calibration_error(probs, labels, bins)
