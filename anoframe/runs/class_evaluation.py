"""Evaluation of a classifier after a task: accuracy, calibration, and the detection of images of later classes.

Test labels are only compared with predictions: the classifier gets feature vectors, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anoframe.data.task_streams import Task
from anoframe.evaluation.classification.evaluator import (
    ClassificationEvaluator,
    ClassPredictions,
    confusion_matrix,
)
from anoframe.evaluation.results import Metrics
from anoframe.metrics.novelty import novelty_metrics
from anoframe.models.class_incremental.base import ClassIncrementalLearner
from anoframe.registry import EVALUATORS

ACCURACY, MIXED, TASK_AWARE = "accuracy", "accuracy_mixed", "accuracy_task_aware"
CONFIDENCES = ("energy", "max_softmax", "variance")
_CHUNK = 64  # images per call: memory only, each is computed by itself


@dataclass(frozen=True)
class TestSet:
    """Test images of a stream.

    Attributes:
        features: `[N, D]` on the device of the classifier.
        classes: class of each image.
        tasks: classes of each task.
    """

    __test__ = False  # not a test class of pytest

    features: Tensor
    classes: Sequence[str]
    tasks: Sequence[Task]

    def rows_of(self, tasks: Sequence[Task]) -> Tensor:
        """Return a mask `[N]` of the images of some tasks."""
        names = {name for task in tasks for name in task}
        return torch.tensor([name in names for name in self.classes], dtype=torch.bool)


@dataclass(frozen=True)
class Outputs:
    """Output of a classifier for images: mean logits over samples `[N, C]`, and the confidences, name -> `[N]`.

    `variance` is missing for a deterministic classifier.
    """

    logits: Tensor
    confidences: dict[str, Tensor]


def predict(learner: ClassIncrementalLearner, features: Tensor) -> Outputs:
    """Compute the output for each image by itself."""
    return _join([_outputs(learner.logits(chunk)) for chunk in features.split(_CHUNK)])


def predict_mixed(learner: ClassIncrementalLearner, features: Tensor, batch_size: int, seed: int) -> Outputs:
    """Compute the output for shuffled batches, whose images a method may compute together."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(features)))
    batches = order.split(batch_size)
    shuffled = _join([_outputs(learner.logits(features[rows.to(features.device)], jointly=True)) for rows in batches])
    back = order.argsort()
    return Outputs(shuffled.logits[back], {name: values[back] for name, values in shuffled.confidences.items()})


def evaluate_task(
    learner: ClassIncrementalLearner, test: TestSet, seen: int, bins: int, mixed_batch_size: int, seed: int
) -> tuple[dict[str, Metrics], dict[str, Any]]:
    """Evaluate after a task.

    Args:
        learner: trained up to the task.
        test: test images of all tasks.
        seen: number of tasks that have arrived.
        bins: of the calibration.
        mixed_batch_size: of the batches that are computed jointly.
        seed: of their order.

    Returns:
        Class -> its metrics, None for classes that have not arrived; and facts about all images together: `top1`,
        `top5`, `ece`, `top1_mixed`, `ece_mixed`, `novelty`, `reliability`, `classes` and `confusion`.
    """
    evaluator: ClassificationEvaluator = EVALUATORS.build("classification", calibration=True, bins=bins)
    outputs, arrived = predict(learner, test.features), test.rows_of(test.tasks[:seen])
    labels = _labels(test.classes, learner.classes)
    alone = ClassPredictions(outputs.logits[arrived], labels[arrived])
    arrived_features = test.features[arrived.to(test.features.device)]
    mixed = ClassPredictions(predict_mixed(learner, arrived_features, mixed_batch_size, seed).logits, labels[arrived])
    classes = [name for task in test.tasks[:seen] for name in task]
    names = {learner.classes.index(name): name for name in classes if name in learner.classes}
    in_task = _task_aware(alone, test.tasks[:seen], learner.classes)
    by_metric = {
        name: evaluator.class_accuracies(predictions, names)
        for name, predictions in ((ACCURACY, alone), (MIXED, mixed), (TASK_AWARE, in_task))
    }
    unknown = dict.fromkeys(by_metric, 0.0)  # of a class that a frozen classifier does not know
    rows: dict[str, Metrics] = {name: dict.fromkeys(by_metric) for task in test.tasks for name in task}
    for name in classes:
        rows[name] = {metric: values.get(name, unknown[metric]) for metric, values in by_metric.items()}
    together = evaluator.measure(mixed)
    facts = {
        **evaluator.measure(alone),
        "top1_mixed": together["top1"],
        "ece_mixed": together["ece"],
        "novelty": _novelty(outputs, arrived) if seen < len(test.tasks) else None,
        "reliability": [row._asdict() for row in evaluator.reliability(alone)],
        "classes": list(learner.classes),
        "confusion": confusion_matrix(alone, len(learner.classes)),
    }
    return rows, facts


def _novelty(outputs: Outputs, arrived: Tensor) -> dict[str, dict[str, float | None]]:
    """Separate images of classes that have arrived from those of later tasks, by each confidence."""
    return {
        name: novelty_metrics(values[arrived].numpy(), values[~arrived].numpy())
        for name, values in outputs.confidences.items()
    }


def _outputs(logits: Tensor) -> Outputs:
    """Reduce logits `[S, B, C]` over the samples."""
    mean = logits.mean(0).cpu()
    confidences = {"energy": mean.logsumexp(1), "max_softmax": mean.softmax(1).amax(1)}
    if len(logits) > 1:
        confidences["variance"] = -logits.softmax(2).var(0, correction=0).sum(1).cpu()
    return Outputs(mean, confidences)


def _join(parts: Sequence[Outputs]) -> Outputs:
    names = parts[0].confidences
    joined = {name: torch.cat([part.confidences[name] for part in parts]) for name in names}
    return Outputs(torch.cat([part.logits for part in parts]), joined)


def _labels(names: Sequence[str], classes: Sequence[str]) -> Tensor:
    """Return the position of each class name, -1 for one that is not known."""
    places = {name: place for place, name in enumerate(classes)}
    return torch.tensor([places.get(name, -1) for name in names])


def _task_aware(predictions: ClassPredictions, tasks: Sequence[Task], classes: Sequence[str]) -> ClassPredictions:
    """Return predictions whose scores of classes outside of the image's own task are minus infinity."""
    task_of = {name: number for number, task in enumerate(tasks) for name in task}
    own = torch.tensor([task_of.get(name, -1) for name in classes])
    true = torch.where(predictions.labels >= 0, own[predictions.labels.clamp(min=0)], -2)
    scores = predictions.scores.masked_fill(own[None] != true[:, None], -torch.inf)
    return ClassPredictions(scores, predictions.labels)
