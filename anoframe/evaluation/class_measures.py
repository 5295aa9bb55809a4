"""What is measured of a detector that classifies images, after each task of a stream.

Category top-1 accuracy, expected calibration error, and how well images of categories to come are told from known ones.
Labels of test images are used here alone; no detector sees them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from anoframe.features.extraction import FeatureBatch
from anoframe.metrics.calibration import expected_calibration_error, reliability_table
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
    """Measure a classifier after a task.

    The probability of a category is the sum of those of its classes. Known images are the test images of the categories
    seen so far, novel ones those of categories to come.

    Args:
        names: of the classes, the axis C of the logits.
        outputs: category -> outputs for its test images, for all categories of the stream.
        seen: categories of the tasks so far.

    Returns:
        `category_top1` and `ece` over all known test images, `reliability` (the bins of the error), and `novelty`:
        measure of confidence -> `auroc`, `aupr`, `fpr95`; None after the last task, when there is no novel category.
    """
    categories = list(dict.fromkeys(map(category_of, names)))
    known = [outputs[name] for name in seen]
    probabilities = np.concatenate([_category_probabilities(names, categories, each.logits) for each in known])
    position = {name: place for place, name in enumerate(categories)}
    labels = np.concatenate([np.full(len(outputs[name].logits), position.get(name, -1)) for name in seen])
    novel = [each for name, each in outputs.items() if name not in seen]
    confidences = {key: (_join(key, known), _join(key, novel)) for key in _CONFIDENCES}
    return {
        "category_top1": float((probabilities.argmax(1) == labels).mean()) if len(labels) else None,
        "ece": expected_calibration_error(probabilities, labels),
        "reliability": [list(row) for row in reliability_table(probabilities, labels)],
        "novelty": {key: novelty_metrics(*pair) for key, pair in confidences.items()} if novel else None,
    }


def category_of(name: str) -> str:
    """Category of a class.

    >>> category_of("bottle"), category_of("bottle/defective")
    ('bottle', 'bottle')
    """
    return name.rpartition("/")[0] or name


def _category_probabilities(names: Sequence[str], categories: Sequence[str], logits: Array) -> Array:
    classes = softmax(logits)
    columns = [[place for place, name in enumerate(names) if category_of(name) == category] for category in categories]
    return np.stack([classes[:, column].sum(1) for column in columns], 1).clip(max=1.0)


def softmax(logits: Array) -> Array:
    """Softmax over the last axis of `[n, C]`."""
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


def _energy(outputs: ClassOutputs) -> Array:
    peak = outputs.logits.max(1, keepdims=True)
    return peak[:, 0] + np.log(np.exp(outputs.logits - peak).sum(1))


_CONFIDENCES = {
    "energy": _energy,  # logsumexp of the logits: the negative free energy
    "max_softmax": lambda outputs: softmax(outputs.logits).max(1),
    "variance": lambda outputs: -outputs.variance,
}


def _join(key: str, parts: Sequence[ClassOutputs]) -> Array:
    values = [_CONFIDENCES[key](each) for each in parts if len(each.logits)]
    return np.concatenate(values) if values else np.zeros(0)
