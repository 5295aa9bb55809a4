"""Part of the stream section for detectors that classify images: category top-1, calibration, novelty, exemplars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from anoframe.evaluation.results import Metrics, percent
from anoframe.report.charts import Series, series_chart
from anoframe.report.number_checks import finite_or_none, read_metrics

_TITLES = {"energy": "energy", "max_softmax": "max softmax", "variance": "variance"}
_NOVELTY = {"auroc": "AUROC", "aupr": "AUPR", "fpr95": "FPR95 ↓"}


@dataclass(frozen=True)
class TaskClasses:
    """What was measured after a task.

    Attributes:
        category_top1, ece: shares; None: not available.
        novelty: measure of confidence -> AUROC, AUPR and FPR95.
        exemplars: number of images that the next task sees again, and bytes of their files; None: no memory.
    """

    category_top1: float | None = None
    ece: float | None = None
    novelty: Mapping[str, Metrics] = field(default_factory=dict)
    exemplars: tuple[int, int] | None = None


@dataclass(frozen=True)
class ClassesView:
    """Values of the template: a table with one row per task, and charts over the tasks."""

    head: list[str]
    rows: list[list[str]]
    charts: list[Markup]


def read_classes(tree: Mapping[str, Any]) -> list[TaskClasses]:
    """Read the optional lists of `results/continual.json`; empty if it has none of them.

    Raises:
        KeyError, TypeError, ValueError or AttributeError if they are damaged.
    """
    columns = [tree.get(name) for name in ("category_top1", "ece", "novelty", "exemplars")]
    if not any(columns):
        return []
    count = len(tree["cl_metrics"])
    for column in columns:
        if column is not None and len(column) != count:
            raise ValueError(f"a list has {len(column)} entries, for {count} tasks")
    filled = [[None] * count if column is None else column for column in columns]
    return [
        TaskClasses(finite_or_none(top1), finite_or_none(ece), _read_novelty(novelty), _read_exemplars(exemplars))
        for top1, ece, novelty, exemplars in zip(*filled, strict=True)
    ]


def classes_view(tasks: Sequence[TaskClasses]) -> ClassesView | None:
    """Prepare the table and the charts; None without any value."""
    if not tasks:
        return None
    confidences = list(dict.fromkeys(name for task in tasks for name in task.novelty))
    has_classes = any(task.category_top1 is not None for task in tasks)
    head = ["Task", *(["Category top-1", "ECE ↓"] if has_classes else [])]
    head += [f"{title}, {_TITLES.get(name, name)}" for name in confidences for title in _NOVELTY.values()]
    head += ["Exemplars", "Their files"] if any(task.exemplars for task in tasks) else []
    return ClassesView(head, [_row(i, task, confidences, head) for i, task in enumerate(tasks)], _charts(tasks))


def _row(number: int, task: TaskClasses, confidences: Sequence[str], head: Sequence[str]) -> list[str]:
    cells = [str(number)]
    if "Category top-1" in head:
        cells += [percent(task.category_top1), percent(task.ece)]
    cells += [percent(task.novelty.get(name, {}).get(key)) for name in confidences for key in _NOVELTY]
    if "Exemplars" in head:
        images, size = task.exemplars or (None, 0)
        cells += ["n/a", "n/a"] if images is None else [f"{images:,}", f"{size / 1e6:.2f} MB"]
    return cells


def _charts(tasks: Sequence[TaskClasses]) -> list[Markup]:
    if len(tasks) < 2:
        return []
    lines = {
        _TITLES.get(name, name): [task.novelty.get(name, {}).get("auroc") for task in tasks]
        for name in dict.fromkeys(name for task in tasks for name in task.novelty)
    }
    shares = {"category top-1": [t.category_top1 for t in tasks], "ECE": [t.ece for t in tasks]}
    return [
        series_chart(title, [Series(name, _points(values)) for name, values in group.items()], True, x_label="task")
        for title, group in (("Novelty, AUROC", lines), ("Categories", shares))
    ]


def _points(values: Sequence[float | None]) -> list[tuple[float, float]]:
    return [(task, value) for task, value in enumerate(values) if value is not None]


def _read_novelty(value: Any) -> dict[str, Metrics]:
    return {} if value is None else {str(name): read_metrics(metrics) for name, metrics in value.items()}


def _read_exemplars(value: Any) -> tuple[int, int] | None:
    return None if value is None else (int(value["images"]), int(value["bytes"]))
