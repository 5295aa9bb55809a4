"""All metrics of a category by name."""

import numpy as np
import pytest

from anoframe import metrics
from anoframe.metrics import image_metrics, pixel_metrics, threshold_sweep

RNG = np.random.default_rng(0)
MASKS = RNG.random((4, 12, 12)) < 0.1
MAPS = RNG.normal(MASKS * 1.0, 1.0).astype(np.float32)


def test_image_metrics_equal_the_single_functions():
    labels, scores = MASKS.ravel()[:100], MAPS.ravel()[:100]
    assert image_metrics(labels, scores) == {
        "image_auroc": metrics.auroc(labels, scores),
        "image_ap": metrics.average_precision(labels, scores),
        "image_f1max": metrics.f1_max(labels, scores),
    }


def test_pixel_metrics_equal_the_single_functions():
    assert pixel_metrics(MASKS, MAPS) == {
        "pixel_auroc": metrics.auroc(MASKS, MAPS),
        "pixel_ap": metrics.average_precision(MASKS, MAPS),
        "pixel_f1max": metrics.f1_max(MASKS, MAPS),
        "aupro": metrics.aupro(MASKS, MAPS),
        "iou_max": metrics.iou_max(MASKS, MAPS),
        "pro_per_image": metrics.pro_per_image(MASKS, MAPS),
    }


def test_name_contains_a_limit_other_than_the_standard_one():
    values = pixel_metrics(MASKS, MAPS, aupro_limits=(0.3, 0.05))
    assert (values["aupro"], values["aupro_0.05"]) == (metrics.aupro(MASKS, MAPS), metrics.aupro(MASKS, MAPS, 0.05))


def test_threshold_adds_three_metrics():
    values = pixel_metrics(MASKS, MAPS, thresholds=(0.5,))
    assert [values["pixel_f1_at_0.5"], values["pixel_accuracy_at_0.5"], values["pixel_iou_at_0.5"]] == [
        metrics.f1_at(MASKS, MAPS, 0.5),
        metrics.accuracy_at(MASKS, MAPS, 0.5),
        metrics.iou_at(MASKS, MAPS, 0.5),
    ]


def test_all_pixel_metrics_share_one_sort(monkeypatch):
    calls = []
    count = threshold_sweep.count_scores
    monkeypatch.setattr(threshold_sweep, "count_scores", lambda *args: calls.append(1) or count(*args))
    pixel_metrics(MASKS, MAPS, aupro_limits=(0.3, 0.05, 1.0), thresholds=(0.5,))
    assert len(calls) == 1


def test_image_metrics_of_a_single_class_are_not_available():
    assert set(image_metrics([0, 0], [0.1, 0.2]).values()) == {None}


def test_pixel_metrics_of_normal_images_only_are_not_available():
    assert set(pixel_metrics(np.zeros_like(MASKS), MAPS, (0.3, 0.05)).values()) == {None}


def test_every_value_is_a_python_float():
    values = {**pixel_metrics(MASKS, MAPS, thresholds=(0.5,)), **image_metrics([0, 1], [0.1, 0.2])}
    assert {type(value) for value in values.values()} == {float}


def test_invalid_limit_is_an_error_even_if_nothing_is_available():
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\]; got 30"):
        pixel_metrics(np.zeros_like(MASKS), MAPS, aupro_limits=(30,))
