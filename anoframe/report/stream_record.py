"""Results of a stream of tasks, read from `results/continual.json` and checked. docs/continual.md lists its keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anoframe.continual.names import JOINT
from anoframe.evaluation.results import Metrics
from anoframe.models.summary import MethodSummary
from anoframe.report.method_record import read_summary
from anoframe.report.number_checks import finite, finite_or_none, read_metrics


@dataclass(frozen=True)
class Stream:
    """Results of a continual run, finished or not.

    The lists from `by_metric` on, and each matrix, have one entry per row. A row is the evaluation after a task; the
    strategy "joint" trains all tasks at once and has a single row.

    Attributes:
        tasks: categories of each task, including tasks that are not trained yet.
        strategy: continual strategy.
        key_metric: metric of the task table.
        matrices: metric -> [row][task].
        by_metric: per row, metric -> `acc`, `fm`, ... (the stream metrics of the catalogue).
        classes: per row, category -> metrics.
        params_total: number of parameters of the network.
        params_trainable: number of parameters that the task trained.
        seconds: training time of the task.
        summaries: method summary after each task; empty in files of earlier versions.
    """

    tasks: list[list[str]]
    strategy: str
    key_metric: str
    matrices: dict[str, list[list[float | None]]]
    by_metric: list[dict[str, Metrics]]
    classes: list[dict[str, Metrics]]
    params_total: list[int]
    params_trainable: list[int]
    seconds: list[float]
    summaries: list[MethodSummary]

    @property
    def is_joint(self) -> bool:
        """Whether all tasks are trained at once."""
        return self.strategy == JOINT

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self.by_metric)

    def num_trained(self, row: int | None = None) -> int:
        """Number of tasks that are trained at a row (default: the last one)."""
        if row is None:
            row = self.num_rows - 1
        return len(self.tasks) if self.is_joint and row >= 0 else row + 1

    @property
    def last(self) -> dict[str, Metrics]:
        """Metric -> `acc`, `fm`, ... at the last row."""
        return self.by_metric[-1] if self.by_metric else {}

    def last_scalars(self) -> dict[str, float]:
        """Scalars of the latest method summary; empty if there is none."""
        return dict(self.summaries[-1].scalars) if self.summaries else {}

    def over_tasks(self, metric: str, key: str) -> list[tuple[int, float]]:
        """Points (latest trained task, stream metric `key` of `metric`), without rows where it is not available."""
        values = [row.get(metric, {}).get(key) for row in self.by_metric]
        return [(self.num_trained(i) - 1, value) for i, value in enumerate(values) if value is not None]

    def scalar_over_tasks(self, name: str) -> list[tuple[int, float]]:
        """Points (latest trained task, scalar of the method summary), without rows that lack it."""
        scalars = [summary.scalars for summary in self.summaries]
        return [(self.num_trained(i) - 1, row[name]) for i, row in enumerate(scalars) if name in row]


def read_stream(tree: Mapping[str, Any]) -> Stream:
    """Read the content of `results/continual.json`.

    Raises:
        KeyError, TypeError, ValueError or AttributeError if it is damaged.
    """
    config, count = tree["config"], len(tree["cl_metrics"])
    stream = Stream(
        tasks=[[str(category) for category in task] for task in config["tasks"]],
        strategy=str(config["strategy"]),
        key_metric=str(config["key_metric"]),
        matrices={str(name): _matrix(rows) for name, rows in tree["R"].items()},
        by_metric=[
            {str(name): read_metrics(values) for name, values in row["by_metric"].items()} for row in tree["cl_metrics"]
        ],
        classes=[
            {str(category): read_metrics(values) for category, values in tree["class_performance"][f"task_{i}"].items()}
            for i in range(count)
        ],
        params_total=[int(value) for value in tree["params_total"]],
        params_trainable=[int(value) for value in tree["params_trainable"]],
        seconds=[finite(value) for value in tree["seconds"]],
        summaries=[read_summary(summary) for summary in tree.get("method_summaries", [])],
    )
    _check_sizes(stream)
    return stream


def _check_sizes(stream: Stream) -> None:
    """Raise ValueError if the lists and matrices do not belong to one stream."""
    count = stream.num_rows
    if stream.num_trained() > len(stream.tasks):
        raise ValueError(f"{count} tasks are trained of {len(stream.tasks)}")
    sizes = {name: len(getattr(stream, name)) for name in ("params_total", "params_trainable", "seconds")}
    if stream.summaries:
        sizes["method_summaries"] = len(stream.summaries)
    for name, size in sizes.items():
        if size != count:
            raise ValueError(f"{name} has {size} entries, for {count} tasks")
    for name, rows in stream.matrices.items():
        if [len(row) for row in rows] != [len(stream.tasks)] * count:
            raise ValueError(f"the matrix of {name} has another shape than {count} x {len(stream.tasks)}")


def _matrix(rows: Sequence[Sequence[Any]]) -> list[list[float | None]]:
    return [[finite_or_none(value) for value in row] for row in rows]
