"""F1, accuracy and IoU at a given threshold."""

import numpy as np
import pytest

from anoframe.metrics import accuracy_at, f1_at, f1_max, iou_at, iou_max

METRICS = [f1_at, accuracy_at, iou_at]
each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)

LABELS = [1, 1, 1, 0, 0, 0, 0]
SCORES = [0.9, 0.5, 0.2, 0.8, 0.3, 0.2, 0.1]  # at 0.5: two hits, one miss, one false alarm, three rejections


@pytest.mark.parametrize(("metric", "value"), [(f1_at, 4 / 6), (accuracy_at, 5 / 7), (iou_at, 2 / 4)])
def test_values_by_hand(metric, value):
    assert metric(LABELS, SCORES, 0.5) == pytest.approx(value)


def test_score_equal_to_the_threshold_is_anomalous():
    assert f1_at([0, 1], [0.0, 0.5], 0.5) == 1.0


def test_float32_score_is_compared_in_its_own_precision():
    assert f1_at([0, 1], np.array([0.0, 0.7], dtype=np.float32), 0.7) == 1.0


def test_numpy_threshold_equals_a_python_threshold():
    scores = np.array([0.0, 0.7], dtype=np.float32)
    assert f1_at([0, 1], scores, np.float64(0.7)) == f1_at([0, 1], scores, 0.7)


def test_integer_scores_with_a_threshold_between_them():
    assert f1_at([0, 1], [0, 1], 0.5) == 1.0


@pytest.mark.parametrize(("metric", "value"), [(f1_at, 0.0), (accuracy_at, 4 / 7), (iou_at, 0.0)])
def test_threshold_above_all_scores_detects_nothing(metric, value):
    assert metric(LABELS, SCORES, 1.0) == pytest.approx(value)


def test_best_threshold_reaches_f1_max():
    assert max(f1_at(LABELS, SCORES, threshold) for threshold in SCORES) == pytest.approx(f1_max(LABELS, SCORES))


def test_best_threshold_reaches_iou_max():
    masks, maps = np.reshape(LABELS, (1, 1, 7)), np.reshape(SCORES, (1, 1, 7))
    assert max(iou_at(masks, maps, threshold) for threshold in SCORES) == pytest.approx(iou_max(masks, maps))


@pytest.mark.parametrize("metric", [f1_at, iou_at])
def test_metric_without_a_positive_is_not_available(metric):
    assert metric([0, 0], [0.1, 0.9], 0.5) is None


def test_accuracy_is_available_without_a_positive():
    assert accuracy_at([0, 0], [0.1, 0.9], 0.5) == 0.5


@each_metric
def test_metric_without_samples_is_not_available(metric):
    assert metric([], [], 0.5) is None


@each_metric
def test_nan_threshold_is_an_error(metric):
    with pytest.raises(ValueError, match="threshold is NaN"):
        metric(LABELS, SCORES, float("nan"))


@each_metric
def test_nan_score_is_an_error(metric):
    with pytest.raises(ValueError, match="1 NaN among 2 values"):
        metric([0, 1], [0.1, np.nan], 0.5)
