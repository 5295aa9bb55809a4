"""Classes and labels of the training images of a task."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anoframe.errors import AnoframeError
from anoframe.models.class_incremental.base import DEFECTIVE, ClassOf
from anoframe.models.learner import TaskData


def new_classes(data: TaskData, class_of: ClassOf, known: Sequence[str]) -> list[str]:
    """Return the classes of the new images that are not known yet, in order of appearance.

    States of one category stand side by side, the normal one first.

    Raises:
        AnoframeError: there is none, or a new image has a class of an earlier task.
    """
    names = list(dict.fromkeys(class_of(data.samples[row]) for row in data.new_rows))
    if repeated := [name for name in names if name in known]:
        raise AnoframeError(f"class {repeated[0]!r} was learned in an earlier task: each class belongs to one task")
    if not names:
        raise AnoframeError("a task needs training images, got none: check the classes of each task")
    first = {category: place for place, category in reversed(list(enumerate(map(_category, names))))}
    return sorted(names, key=lambda name: (first[_category(name)], name.endswith(f"/{DEFECTIVE}")))


def label_rows(data: TaskData, class_of: ClassOf, classes: Sequence[str]) -> Tensor:
    """Return the label of each training image of a task, `[N]` int64, as positions in `classes`.

    Raises:
        AnoframeError: an exemplar is of a class that no task had.
    """
    position = {name: place for place, name in enumerate(classes)}
    names = [class_of(sample) for sample in data.samples]
    for sample, name in zip(data.samples, names, strict=True):
        if name not in position:
            raise AnoframeError(f"{sample.image}: its class {name!r} is none of {', '.join(classes)}")
    return torch.tensor([position[name] for name in names], dtype=torch.int64)


def rows_by_class(data: TaskData, class_of: ClassOf) -> dict[str, list[int]]:
    """Return class -> rows of its new images."""
    rows: dict[str, list[int]] = {}
    for row in data.new_rows:
        rows.setdefault(class_of(data.samples[row]), []).append(row)
    return rows


def _category(name: str) -> str:
    return name.rpartition("/")[0] or name
