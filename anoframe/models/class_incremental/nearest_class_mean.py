"""Nearest class mean: the class whose mean feature is nearest (Mensink et al., TPAMI 2013; iCaRL, CVPR 2017).

A baseline without gradient descent. The mean of a class is that of all its training images, seen once; nothing is
forgotten, and no exemplar is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.class_incremental.base import ClassIncrementalLearner, ClassOf, category_class
from anoframe.models.class_incremental.labels import label_rows, new_classes
from anoframe.models.learner import Features, Observation, TaskData
from anoframe.models.summary import MethodSummary
from anoframe.types import Sample


class NearestClassMean(ClassIncrementalLearner):
    """Logits are the scaled cosine of the feature vector with the mean of the unit feature vectors of each class.

    Args:
        features: length D of a feature vector.
        class_of: class of a training sample.
        scale: factor of the cosines; it changes probabilities, not the order of the classes.
    """

    means: Tensor  # [C, D] unit vectors

    def __init__(self, features: int, class_of: ClassOf = category_class, scale: float = 100.0):
        super().__init__(features, class_of)
        if not scale > 0:
            raise AnoframeError(f"model.classifier.scale, the factor of cosines, must be above 0, got {scale}")
        self.scale = scale
        self.register_buffer("means", torch.zeros(0, features))
        self._data: TaskData | None = None
        self._labels = torch.zeros(0, dtype=torch.int64)
        self._sums = torch.zeros(0, features, dtype=torch.float64)
        self._observed = 0

    def start_task(self, task: int, data: TaskData) -> None:
        begun = len(self.class_counts)
        if begun == task:
            self.add_classes(new_classes(data, self.class_of, self.classes))
        elif begun != task + 1:
            raise AnoframeError(f"task {task} cannot be trained now, {begun} were begun: train tasks in order")
        self._data, self._labels = data, label_rows(data, self.class_of, self.classes)

    def finish_task(self) -> None:
        """Do nothing: the means are permanent."""

    def training_stages(self) -> Sequence[Observation]:
        if self._data is None:
            return ()
        return [Observation("means", self._begin, self._observe, self._finish, rows=self._data.new_rows)]

    def logits(self, features: Tensor, jointly: bool = False) -> Tensor:
        with torch.no_grad():
            return (self.scale * F.normalize(features.float(), dim=-1) @ self.means.T)[None]

    def summary(self) -> MethodSummary:
        return MethodSummary({"growth/classes": len(self.classes)})

    def _begin(self, images: int) -> None:
        self._sums = torch.zeros(len(self.classes), self.features, dtype=torch.float64, device=self.means.device)
        self._observed = 0

    def _observe(self, features: Features, samples: Sequence[Sample]) -> None:
        labels = self._labels[self._observed : self._observed + len(samples)].to(self._sums.device)
        self._sums.index_add_(0, labels, F.normalize(features.float(), dim=-1).double())
        self._observed += len(samples)

    def _finish(self) -> None:
        new = int(self.class_counts[-1])
        means = F.normalize(self._sums[-new:], dim=-1).float()
        self.means = torch.cat([self.means[: len(self.classes) - new], means])
