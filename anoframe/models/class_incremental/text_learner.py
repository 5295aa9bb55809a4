"""Base of class-incremental classifiers that compare images with the text features of classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.class_incremental.base import ClassIncrementalLearner, ClassOf, category_class
from anoframe.models.class_incremental.labels import label_rows, new_classes, rows_by_class
from anoframe.models.class_incremental.text import TextSource
from anoframe.models.learner import Features, Observation, TaskData, TrainingBatch
from anoframe.types import Sample


class TextLearner(ClassIncrementalLearner):
    """Keeps mean and variance of the text features of all classes, and the labels of the current task.

    Args:
        features: length D of a feature vector, and of a text feature.
        text: source of the text features.
        class_of: class of a training sample.
        scale: factor of cosines in logits, CLIP's exponentiated logit scale.
    """

    text_means: Tensor  # [C, D], mean of the texts of each class, not normalised
    text_variances: Tensor  # [C, D], unbiased variance of the texts of each class; 0 for a single text

    def __init__(
        self, features: int, text: TextSource, class_of: ClassOf = category_class, scale: float = 100.0
    ) -> None:
        super().__init__(features, class_of)
        if not scale > 0:
            raise AnoframeError(f"model.classifier.scale, the factor of cosines, must be above 0, got {scale}")
        self.text, self.scale = text, scale
        self.register_buffer("text_means", torch.zeros(0, features))
        self.register_buffer("text_variances", torch.zeros(0, features))
        self._data: TaskData | None = None
        self._labels = torch.zeros(0, dtype=torch.int64)
        self._observed: list[Tensor] = []

    # ------------------------------------------------------------------------------------------------ tasks

    def start_task(self, task: int, data: TaskData) -> None:
        begun = len(self.class_counts)
        if begun == task:
            self.add_classes(new_classes(data, self.class_of, self.classes))
            self.exemplar_rows = self.exemplar_rows[:0]
            self._begin_task(task)
        elif begun != task + 1:
            raise AnoframeError(f"task {task} cannot be trained now, {begun} were begun: train tasks in order")
        self._data, self._labels = data, label_rows(data, self.class_of, self.classes)

    def _begin_task(self, task: int) -> None:
        """Prepare what is learned for a new task, whose classes have been added."""
        names = self.classes[-int(self.class_counts[-1]) :]
        if (features := self.text.encode(names)) is not None:
            self._add_text(features)

    def finish_task(self) -> None:
        pass

    def batch_labels(self, batch: TrainingBatch) -> Tensor:
        """Return the labels of a batch, `[B]` int64, as positions in `classes`."""
        return self._labels.to(batch.rows.device)[batch.rows]

    # ------------------------------------------------------------------------------------------------ text features

    def _add_text(self, features: Tensor) -> None:
        """Set the text features of the classes of the current task, `[K, P, D]`."""
        old, device = len(self.classes) - len(features), self.text_means.device
        features = features.to(device, torch.float32)
        spread = features.var(1) if features.shape[1] > 1 else torch.zeros_like(features[:, 0])
        self.text_means = torch.cat([self.text_means[:old], features.mean(1)])
        self.text_variances = torch.cat([self.text_variances[:old], spread])

    def text_features(self) -> Tensor:
        """Return the unit text feature of each class, `[C, D]`: `q` of the paper."""
        return F.normalize(self.text_means, dim=-1)

    def text_stages(self) -> list[Observation]:
        """List the stage that reads text features from training images; empty if they come from prompts."""
        data, task = self._data, len(self.class_counts) - 1
        if data is None or not self.text.from_images:
            return []
        rows = rows_by_class(data, self.class_of)
        chosen = self.text.support_rows({name: rows[name] for name in self.classes[-len(rows) :]}, task)
        flat = [row for group in chosen for row in group]
        return [Observation("text", self._begin_text, self._observe_text, self._finish_text, rows=flat)]

    def _begin_text(self, images: int) -> None:
        self._observed = []

    def _observe_text(self, features: Features, samples: Sequence[Sample]) -> None:
        self._observed.append(self.unit_features(features))

    def _finish_text(self) -> None:
        features, self._observed = torch.cat(self._observed), []
        self._add_text(features.unflatten(0, (int(self.class_counts[-1]), -1)))

    # ------------------------------------------------------------------------------------------------ shared

    @staticmethod
    def unit_features(features: Tensor) -> Tensor:
        """Return features `[B, D]` of the encoder as unit vectors."""
        return F.normalize(features.float(), dim=-1)
