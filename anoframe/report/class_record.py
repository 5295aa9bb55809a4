"""What was measured of classes and exemplars after each task of a stream, from `results/continual.json`, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anoframe.evaluation.results import Metrics
from anoframe.report.number_checks import finite_or_none, read_metrics


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


def _read_novelty(value: Any) -> dict[str, Metrics]:
    return {} if value is None else {str(name): read_metrics(metrics) for name, metrics in value.items()}


def _read_exemplars(value: Any) -> tuple[int, int] | None:
    return None if value is None else (int(value["images"]), int(value["bytes"]))
