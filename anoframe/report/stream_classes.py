"""Part of the stream section for detectors that classify images: category top-1, calibration, novelty, exemplars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from anoframe.evaluation.results import percent
from anoframe.report.charts import Series, series_chart
from anoframe.report.class_record import TaskClasses

_TITLES = {"energy": "energy", "max_softmax": "max softmax", "variance": "variance"}
_NOVELTY = {"auroc": "AUROC", "aupr": "AUPR", "fpr95": "FPR95 ↓"}


@dataclass(frozen=True)
class ClassesView:
    """Values of the template: a table with one row per task, and charts over the tasks."""

    head: list[str]
    rows: list[list[str]]
    charts: list[Markup]


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
