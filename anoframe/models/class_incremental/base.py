"""Interface of classifiers whose classes arrive task by task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from anoframe.models.learner import Learner, TaskData
from anoframe.types import Sample

ClassOf = Callable[[Sample], str]

NORMAL, DEFECTIVE = "normal", "defective"


def category_class(sample: Sample) -> str:
    """Return the class of a sample if classes are categories: its category."""
    return sample.category


def state_class(sample: Sample) -> str:
    """Return the class of a sample if classes are categories and states: `bottle/normal` or `bottle/defective`."""
    return f"{sample.category}/{DEFECTIVE if sample.is_defect else NORMAL}"


class ClassIncrementalLearner(Learner, ABC):
    """Classifier on one feature vector per image. For each task: `start_task`, `training_stages`, `finish_task`.

    Names and numbers of the classes are buffers, so that a checkpoint holds them.

    Args:
        features: length D of a feature vector.
        class_of: class of a training sample. Test samples are never given to it.

    Attributes:
        class_of: as above.
    """

    class_text: Tensor  # uint8, names of all classes in task order, as UTF-8, one per line
    class_counts: Tensor  # [tasks] int64, number of classes of each task
    exemplar_rows: Tensor  # [M] int64, rows of the current task that are kept as exemplars for the next task

    def __init__(self, features: int, class_of: ClassOf = category_class):
        super().__init__()
        self.features, self.class_of = features, class_of
        self.register_buffer("class_text", torch.zeros(0, dtype=torch.uint8))
        self.register_buffer("class_counts", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("exemplar_rows", torch.zeros(0, dtype=torch.int64))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes seen so far, in task order; the axis C of `logits`."""
        return tuple(bytes(self.class_text.tolist()).decode().split("\n")) if len(self.class_text) else ()

    @property
    def task_classes(self) -> tuple[range, ...]:
        """For each task seen so far the positions of its classes in `classes`."""
        ends = self.class_counts.cumsum(0).tolist()
        return tuple(range(end - count, end) for end, count in zip(ends, self.class_counts.tolist(), strict=True))

    def add_classes(self, names: Sequence[str]) -> None:
        """Add the classes of a new task."""
        text = "\n".join((*self.classes, *names)).encode()
        device = self.class_text.device
        self.class_text = torch.tensor(list(text), dtype=torch.uint8, device=device)
        self.class_counts = torch.cat([self.class_counts, torch.tensor([len(names)], device=device)])

    @abstractmethod
    def start_task(self, task: int, data: TaskData) -> None:
        """Begin task number `task`, counted from 0; then `training_stages` is for it.

        A task whose state was loaded in the middle of its training continues: its classes are not added again.
        """

    @abstractmethod
    def finish_task(self) -> None:
        """Make the state learned on this task permanent."""

    @abstractmethod
    def logits(self, features: Tensor, jointly: bool = False) -> Tensor:
        """Compute logits in eval mode and without gradients; the same call gives the same values.

        Args:
            features: `[B, D]`, output of the frozen encoder.
            jointly: False computes each image by itself, the headline. True lets a method that attends over its batch
                see all B images together, as the reference of CLAP4CLIP does.

        Returns:
            `[S, B, C]`, one slice per Monte Carlo sample; S is 1 for a deterministic classifier.
        """
