"""Evaluator of classifiers: unknown classes, ties, confusion, and the registry of evaluators."""

from __future__ import annotations

import pytest
import torch

from anoframe.errors import AnoframeError
from anoframe.evaluation.classification.evaluator import ClassificationEvaluator, ClassPredictions, confusion_matrix
from anoframe.registry import EVALUATORS


@pytest.fixture
def predictions():
    scores = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 2.0, 1.0], [1.0, 1.0, 0.0]])
    return ClassPredictions(scores, torch.tensor([0, 1, 2, 0]))


def test_each_kind_of_evaluation_has_its_evaluator():
    assert EVALUATORS.names() == ["anomaly", "classification"]
    assert isinstance(EVALUATORS.build("classification", bins=5), ClassificationEvaluator)
    with pytest.raises(AnoframeError, match="did you mean"):
        EVALUATORS.build("clasification")


def test_top1_counts_a_tie_as_wrong(predictions):
    assert ClassificationEvaluator().measure(predictions) == {"top1": 0.5}


def test_top5_is_measured_with_more_than_five_classes():
    scores = torch.eye(7) + torch.arange(7) / 100
    metrics = ClassificationEvaluator().measure(ClassPredictions(scores, torch.tensor([0, 0, 2, 3, 4, 5, 6])))
    assert metrics["top1"] == pytest.approx(6 / 7)
    assert metrics["top5"] == pytest.approx(6 / 7)  # of class 0 only the lowest score


def test_an_image_of_an_unknown_class_is_wrong(predictions):
    unknown = ClassPredictions(predictions.scores, torch.tensor([0, 1, -1, -1]))
    evaluator = ClassificationEvaluator(calibration=True)
    assert evaluator.measure(unknown)["top1"] == 0.5
    assert evaluator.top_accuracies(ClassPredictions(predictions.scores, torch.tensor([-1] * 4))) == {"top1": 0.0}
    assert confusion_matrix(unknown, 3) == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_accuracy_of_each_class(predictions):
    names = {0: "cat", 1: "dog", 2: "frog"}
    assert ClassificationEvaluator().class_accuracies(predictions, names) == {"cat": 0.5, "dog": 1.0, "frog": 0.0}


def test_confusion_counts_every_image(predictions):
    assert confusion_matrix(predictions, 3) == [[2, 0, 0], [0, 1, 0], [0, 1, 0]]  # a tie goes to the first class


def test_the_calibration_error_uses_the_softmax_of_the_scores(predictions):
    evaluator = ClassificationEvaluator(calibration=True, bins=1)
    confidence = float(predictions.scores.double().softmax(1).amax(1).mean())
    hits = float((predictions.scores.argmax(1) == predictions.labels).double().mean())
    assert evaluator.measure(predictions)["ece"] == pytest.approx(abs(confidence - hits))
    (row,) = evaluator.reliability(predictions)
    assert (row.images, row.accuracy) == (4, hits)
