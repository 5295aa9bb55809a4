"""Evaluator of classifiers: top-1, top-5, calibration, and the confusion matrix of a set of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from anoframe.evaluation.classification.features import accuracies
from anoframe.evaluation.results import Metrics
from anoframe.metrics.calibration import ReliabilityBin, expected_calibration_error, reliability_table


@dataclass(frozen=True)
class ClassPredictions:
    """Scores of all classes for each image, and its true class.

    Attributes:
        scores: `[N, C]`, higher is more probable; logits if calibration is measured.
        labels: `[N]` int64, positions of the true classes; -1 for a class that the classifier does not know.
    """

    scores: Tensor
    labels: Tensor

    def select(self, rows: Tensor) -> ClassPredictions:
        """Return the predictions of some images, by position or as a mask."""
        return ClassPredictions(self.scores[rows], self.labels[rows])

    @property
    def probabilities(self) -> Tensor:
        """Softmax of the scores in float64, `[N, C]`."""
        return self.scores.double().softmax(1)


class ClassificationEvaluator:
    """Measures predictions of a classifier.

    Args:
        calibration: also measure the expected calibration error; the scores must then be logits.
        bins: of the calibration.
    """

    def __init__(self, calibration: bool = False, bins: int = 15):
        self.calibration, self.bins = calibration, bins

    def measure(self, predictions: ClassPredictions) -> Metrics:
        """Compute the shares of `top_accuracies`, and on request `ece`, the expected calibration error."""
        metrics: Metrics = {**self.top_accuracies(predictions)}
        if self.calibration:
            probs = predictions.probabilities.numpy()
            metrics["ece"] = expected_calibration_error(probs, predictions.labels.numpy(), self.bins)
        return metrics

    def top_accuracies(self, predictions: ClassPredictions) -> dict[str, float]:
        """Compute `top1` and, with more than five classes, `top5`.

        An image of a class that the classifier does not know is always wrong, and a tie counts as wrong.
        """
        known = predictions.labels >= 0
        if bool(known.all()):
            return accuracies(predictions.scores, predictions.labels)
        share = float(known.double().mean())
        inner = accuracies(predictions.scores[known], predictions.labels[known])
        return {name: value * share if share else 0.0 for name, value in inner.items()}

    def class_accuracies(self, predictions: ClassPredictions, names: Mapping[int, str]) -> dict[str, float]:
        """Compute the top-1 accuracy of the images of each class; a class without images is left out.

        Args:
            predictions: of images of several classes.
            names: position -> name.
        """
        own = {name: predictions.select(predictions.labels == position) for position, name in names.items()}
        return {name: self.top_accuracies(images)["top1"] for name, images in own.items() if len(images.labels)}

    def reliability(self, predictions: ClassPredictions) -> list[ReliabilityBin]:
        """Compute the bins of a reliability diagram; the scores must be logits."""
        return reliability_table(predictions.probabilities.numpy(), predictions.labels.numpy(), self.bins)


def confusion_matrix(predictions: ClassPredictions, classes: int) -> list[list[int]]:
    """Count the images of each true class (row) per predicted class (column), `[classes][classes]`.

    Images of unknown classes are left out. A tie goes to the first class.
    """
    known = predictions.labels >= 0
    truth, predicted = predictions.labels[known], predictions.scores[known].argmax(1)
    counts = torch.bincount(truth * classes + predicted, minlength=classes * classes)
    rows: list[list[int]] = counts.reshape(classes, classes).tolist()
    return rows
