"""Metrics of a stream of tasks: values by hand, comparison with naive loops, and values that are not available."""

from __future__ import annotations

import numpy as np
import pytest

from anoframe.metrics.continual import (
    average,
    average_incremental,
    backward_transfer,
    forgetting,
    forgetting_from_diagonal,
    forgetting_per_task,
    forward_transfer,
)

TWO = [[0.9, None], [0.7, 0.8]]
LATE_BEST = [
    [0.6, 0.4, 0.3],
    [0.9, 0.7, 0.2],
    [0.8, 0.9, 0.5],
]  # task 0 is best after task 1, task 1 is best at the end


@pytest.mark.parametrize(
    ("measure", "value"),
    [
        (average, 0.75),
        (forgetting, 0.2),
        (forgetting_from_diagonal, 0.2),
        (backward_transfer, -0.2),
        (average_incremental, 0.825),
    ],
)
def test_two_tasks_by_hand(measure, value):
    assert measure(TWO) == pytest.approx(value)


@pytest.mark.parametrize(
    ("measure", "value"),
    [
        (average, (0.8 + 0.9 + 0.5) / 3),
        (forgetting, ((0.9 - 0.8) + (0.7 - 0.9)) / 2),
        (forgetting_from_diagonal, ((0.6 - 0.8) + (0.7 - 0.9)) / 2),
        (backward_transfer, ((0.8 - 0.6) + (0.9 - 0.7)) / 2),
        (average_incremental, (0.6 + (0.9 + 0.7) / 2 + (0.8 + 0.9 + 0.5) / 3) / 3),
    ],
)
def test_three_tasks_by_hand(measure, value):
    assert measure(LATE_BEST) == pytest.approx(value)


def test_forward_transfer_uses_the_value_before_training():
    assert forward_transfer(LATE_BEST, [0.0, 0.5, 0.1]) == pytest.approx(((0.4 - 0.5) + (0.2 - 0.1)) / 2)


def test_forward_transfer_needs_a_baseline():
    assert forward_transfer(LATE_BEST) is None


def test_task_that_improves_has_negative_forgetting():
    assert forgetting([[0.5, 0.5], [0.75, 0.5]]) == -0.25


def test_forgetting_of_a_single_task_is_not_available():
    assert [measure([[0.9]]) for measure in (forgetting, forgetting_from_diagonal, backward_transfer)] == [None] * 3
    assert forgetting_per_task([[0.9]]) == []


def test_frozen_detector_has_forgetting_of_exactly_zero():
    frozen = [[0.9, 0.61, 0.7]] * 3
    assert [forgetting(frozen), forgetting_from_diagonal(frozen), backward_transfer(frozen)] == [0.0, 0.0, 0.0]
    assert str(forgetting_from_diagonal(frozen)) == "0.0"


def test_without_a_trained_task_nothing_is_available():
    assert [average([]), average_incremental([]), forgetting([]), backward_transfer([])] == [None] * 4


def test_later_tasks_change_neither_average_nor_forgetting():
    longer = [[*row, 0.1, 0.2] for row in LATE_BEST]
    for measure in (average, average_incremental, forgetting, forgetting_from_diagonal, backward_transfer):
        assert measure(longer) == measure(LATE_BEST)


def test_joint_training_has_seen_all_tasks():
    assert average([[0.5, 0.75, 1.0]], seen=3) == 0.75


# ------------------------------------------------------------------------------------------------ naive loops


def matrix(seed, missing):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 7))
    values = rng.random((count, count + int(rng.integers(0, 3))))
    absent = rng.random(values.shape) < missing
    return [[None if a else float(v) for v, a in zip(*row, strict=True)] for row in zip(values, absent, strict=True)]


def nan_mean(values):
    values = np.asarray(values, float)
    return None if not len(values) or np.isnan(values).all() else float(np.nanmean(values))


def naive(R):
    """Compute every metric with arrays and NaN."""
    R, n = np.array(R, float), len(R)
    best = [np.nan if np.isnan(R[j : n - 1, j]).all() else np.nanmax(R[j : n - 1, j]) for j in range(n - 1)]
    return {
        "average": nan_mean(R[-1, :n]),
        "forgetting": nan_mean([best[j] - R[-1, j] for j in range(n - 1)]),
        "backward": nan_mean([R[-1, j] - R[j, j] for j in range(n - 1)]),
        "incremental": nan_mean([np.nan if (m := nan_mean(R[i, : i + 1])) is None else m for i in range(n)]),
        "forward": nan_mean([R[j - 1, j] - 0.25 for j in range(1, min(n + 1, R.shape[1]))]),
    }


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("seed", range(25))
def test_metrics_agree_with_naive_arrays(seed, missing):
    R = matrix(seed, missing)
    metrics = {
        "average": average(R),
        "forgetting": forgetting(R),
        "backward": backward_transfer(R),
        "incremental": average_incremental(R),
        "forward": forward_transfer(R, [0.25] * len(R[0])),
    }
    assert metrics == pytest.approx(naive(R), nan_ok=False)


@pytest.mark.parametrize("seed", range(25))
def test_forgetting_from_best_is_at_least_that_from_diagonal(seed):
    R = matrix(seed, 0.0)
    assert forgetting(R) >= forgetting_from_diagonal(R) - 1e-12


@pytest.mark.parametrize("seed", range(25))
def test_constant_offset_changes_only_the_average(seed):
    R = matrix(seed, 0.3)
    moved = [[None if v is None else v + 0.5 for v in row] for row in R]
    for measure in (forgetting, backward_transfer):
        assert measure(moved) == pytest.approx(measure(R))
    assert average(R) is None or average(moved) == pytest.approx(average(R) + 0.5)


# ------------------------------------------------------------------------------------------------ not available


def test_unavailable_task_is_left_out_of_the_mean():
    assert average([[0.9, 0.5, 0.5], [0.9, None, 0.5], [0.7, None, 0.5]]) == pytest.approx(0.6)
    assert forgetting_per_task([[0.9, 0.5, 0.5], [0.9, None, 0.5], [0.75, None, 0.5]]) == [pytest.approx(0.15), None]


def test_without_available_values_there_is_no_mean():
    assert [average([[None]]), forgetting([[None, None]] * 2), backward_transfer([[None, 1.0]] * 2)] == [None] * 3


def test_values_of_the_method_sheet_of_clap4clip():
    matrix = [[90, None], [80, 95]]  # C18, in percent; worked out by hand
    assert average(matrix) == pytest.approx(87.5)
    assert forgetting(matrix) == pytest.approx(10)
    assert backward_transfer(matrix) == pytest.approx(-10)
    assert average_incremental(matrix) == pytest.approx((90 + 87.5) / 2)
