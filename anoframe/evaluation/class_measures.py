"""What is measured of a detector that classifies images, after each task of a stream.

Category top-1 accuracy, expected calibration error, and how well images of categories to come are told from known ones.
Labels of test images are used here alone; no detector sees them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anoframe.evaluation.classification.evaluator import (
    ClassificationEvaluator,
    ClassPredictions,
    confusion_matrix,
)
from anoframe.features.extraction import FeatureBatch
from anoframe.metrics.novelty import novelty_metrics

Array = NDArray[np.float64]


@runtime_checkable
class ClassifyingDetector(Protocol):
    """Detector whose scores are those of a classifier of categories, or of categories and their states."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes learned so far: `bottle`, or `bottle/normal` and `bottle/defective`."""

    def sample_logits(self, features: Tensor) -> Tensor:
        """Compute logits `[S, B, C]` of features of images; each image by itself."""


@dataclass(frozen=True)
class ClassOutputs:
    """Outputs of a classifier for n images.

    Attributes:
        logits: `[n, C]`, mean over Monte Carlo samples.
        variance: `[n]`, variance over samples of the softmax, summed over classes; 0 for a single sample.
    """

    logits: Array
    variance: Array


def classify(detector: ClassifyingDetector, batches: Iterable[FeatureBatch]) -> ClassOutputs:
    """Compute the outputs for all images of some batches."""
    logits, variances = [], []
    for batch in batches:
        samples = detector.sample_logits(batch.features).double()
        logits.append(samples.mean(0).cpu().numpy())
        variances.append(samples.softmax(-1).var(0, correction=0).sum(-1).cpu().numpy())
    if not logits:
        return ClassOutputs(np.zeros((0, len(detector.class_names))), np.zeros(0))
    return ClassOutputs(np.concatenate(logits), np.concatenate(variances))


def measure_classes(names: Sequence[str], outputs: Mapping[str, ClassOutputs], seen: Sequence[str]) -> dict[str, Any]:
    """Measure a classifier after a task, on the keys that class-incremental classification of labelled images has.

    The probability of a category is the sum of those of its classes. Known images are the test images of the categories
    seen so far, novel ones those of categories to come.

    Args:
        names: of the classes, the axis C of the logits.
        outputs: category -> outputs for its test images, for all categories of the stream.
        seen: categories of the tasks so far.

    Returns:
        `category_top1` and `ece` over all known test images; `classification`: `classes` (the categories), `confusion`
        and `reliability` (the bins of the error); and `novelty`: measure of confidence -> `auroc`, `aupr`, `fpr95`,
        None after the last task, when there is no novel category.
    """
    evaluator = ClassificationEvaluator(calibration=True)
    categories = list(dict.fromkeys(map(category_of, names)))
    position = {name: place for place, name in enumerate(categories)}
    known, novel = [outputs[name] for name in seen], [each for name, each in outputs.items() if name not in seen]
    scores = np.concatenate([_category_logits(names, categories, each.logits) for each in known])
    labels = np.concatenate([np.full(len(outputs[name].logits), position.get(name, -1)) for name in seen])
    predictions = ClassPredictions(torch.from_numpy(scores), torch.from_numpy(labels))
    metrics = evaluator.measure(predictions)
    confidences = {key: (_join(key, known), _join(key, novel)) for key in _CONFIDENCES}
    return {
        "category_top1": metrics["top1"],
        "ece": metrics["ece"],
        "classification": {
            "classes": categories,
            "confusion": confusion_matrix(predictions, len(categories)),
            "reliability": [row._asdict() for row in evaluator.reliability(predictions)],
        },
        "novelty": {key: novelty_metrics(*pair) for key, pair in confidences.items()} if novel else None,
    }


def category_of(name: str) -> str:
    """Category of a class.

    >>> category_of("bottle"), category_of("bottle/defective")
    ('bottle', 'bottle')
    """
    return name.rpartition("/")[0] or name


def _category_logits(names: Sequence[str], categories: Sequence[str], logits: Array) -> Array:
    """Logits of categories `[n, categories]`: their softmax gives each the sum of the probabilities of its classes."""
    columns = [[place for place, name in enumerate(names) if category_of(name) == category] for category in categories]
    return np.stack([logsumexp(logits[:, column]) for column in columns], 1)


def logsumexp(logits: Array) -> Array:
    """Logarithm of the sum of exponentials over the last axis of `[n, C]`."""
    values: Array = torch.from_numpy(logits).logsumexp(1).numpy()
    return values


def softmax(logits: Array) -> Array:
    """Softmax over the last axis of `[n, C]`."""
    values: Array = torch.from_numpy(logits).softmax(1).numpy()
    return values


_CONFIDENCES = {
    "energy": lambda outputs: logsumexp(outputs.logits),  # logsumexp of the logits: the negative free energy
    "max_softmax": lambda outputs: softmax(outputs.logits).max(1),
    "variance": lambda outputs: -outputs.variance,
}


def _join(key: str, parts: Sequence[ClassOutputs]) -> Array:
    values = [_CONFIDENCES[key](each) for each in parts if len(each.logits)]
    return np.concatenate(values) if values else np.zeros(0)
