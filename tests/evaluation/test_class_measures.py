"""Category top-1, calibration and novelty of a detector that classifies images, on logits made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anoframe.evaluation.class_measures import ClassifyingDetector, ClassOutputs, classify, measure_classes
from anoframe.features.extraction import FeatureBatch

STATES = ("a/normal", "a/defective", "b/normal", "b/defective")


def outputs(rows, variance=None):
    rows = np.array(rows, float)
    return ClassOutputs(rows, np.zeros(len(rows)) if variance is None else np.array(variance, float))


def test_a_category_has_the_sum_of_the_probabilities_of_its_states():
    """0.4 + 0.3 beat 0.9 - 0.6: no single state decides."""
    rows = np.log([[0.35, 0.25, 0.4, 0.0001], [0.1, 0.1, 0.5, 0.3]])
    result = measure_classes(STATES, {"a": outputs(rows[:1]), "b": outputs(rows[1:])}, ["a", "b"])
    assert result["category_top1"] == 1.0
    assert result["ece"] == pytest.approx((0.4 + 0.2) / 2, abs=1e-3)


def test_an_image_that_is_surely_taken_for_another_category_is_a_miscalibrated_error():
    result = measure_classes(("a", "b"), {"a": outputs([[50.0, 0.0]]), "b": outputs([[50.0, 0.0]])}, ["a", "b"])
    assert (result["category_top1"], result["ece"]) == (0.5, pytest.approx(0.5))


def test_novel_images_have_less_energy_and_known_ones_are_positive():
    known, novel = outputs([[9.0, 1.0], [8.0, 0.0]], [0.1, 0.2]), outputs([[1.0, 0.9], [2.0, 0.1]], [0.5, 0.6])
    result = measure_classes(("a", "b"), {"a": known, "c": novel}, ["a"])["novelty"]
    assert {name: values["auroc"] for name, values in result.items()} == {
        **dict.fromkeys(("energy", "max_softmax", "variance"), 1.0)
    }
    swapped = measure_classes(("a", "b"), {"a": novel, "c": known}, ["a"])["novelty"]
    assert swapped["energy"] == {"auroc": 0.0, "aupr": pytest.approx(swapped["energy"]["aupr"]), "fpr95": 1.0}


def test_after_the_last_task_there_is_no_novelty():
    result = measure_classes(("a",), {"a": outputs([[1.0]])}, ["a"])
    assert result["novelty"] is None
    assert result["category_top1"] == 1.0


def test_a_frozen_detector_is_wrong_on_categories_that_it_never_learned():
    result = measure_classes(("a",), {"a": outputs([[1.0]]), "b": outputs([[1.0]])}, ["a", "b"])
    assert result["category_top1"] == 0.5


def test_energies_of_large_logits_are_finite():
    result = measure_classes(("a", "b"), {"a": outputs([[900.0, 0]]), "c": outputs([[800.0, 0]])}, ["a"])
    assert result["novelty"]["energy"]["auroc"] == 1.0


def test_outputs_are_means_over_samples_and_variances_of_the_softmax():
    class Detector:
        class_names = ("a", "b")

        def sample_logits(self, features):
            return torch.stack([features, -features])

    def batch(rows):
        features = torch.tensor(rows)
        return FeatureBatch(features, torch.zeros(len(rows), 1, 1, 1, dtype=torch.bool), (None,) * len(rows))

    assert isinstance(Detector(), ClassifyingDetector)
    result = classify(Detector(), [batch([[2.0, 0.0]]), batch([[0.0, 0.0]])])
    assert result.logits.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    p = 1 / (1 + np.exp(-2.0))
    assert result.variance == pytest.approx([2 * (p - 0.5) ** 2, 0.0])
    assert classify(Detector(), []).logits.shape == (0, 2)
