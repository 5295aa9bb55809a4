"""Section of a continual run: stream metrics, matrices, charts over the tasks, and the method summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from anoframe.evaluation.results import fixed, percent
from anoframe.metrics.catalogue import CLASS_METRICS, METRICS, STREAM, SUMMARY, Metric, title_of
from anoframe.metrics.continual import average, forgetting, forgetting_per_task
from anoframe.report.charts import Series, series_chart
from anoframe.report.method_section import DEEPEST, MethodView, stream_method_view
from anoframe.report.stream_record import Stream

_MIN_SPAN = 0.1  # of the values that the shades of a matrix spread over: small differences stay pale
_PALEST = 6  # percent of the strongest shade


@dataclass(frozen=True)
class TaskRow:
    """A row of the table of tasks; numbers are empty for a task that is not trained yet."""

    categories: str
    seconds: str = ""
    parameters: str = ""
    trained_parameters: str = ""
    metric_after_training: str = "n/a"
    metric_now: str = "n/a"


@dataclass(frozen=True)
class MatrixCell:
    """A cell of a matrix.

    Attributes:
        text: percent with one decimal, or "n/a".
        tooltip: percent with two decimals; empty if not available.
        style: CSS class: `later` for a task that is not trained yet, `new` for the task just trained.
        depth: percent of the strongest shade; None for no shade.
    """

    text: str
    tooltip: str = ""
    style: str = ""
    depth: str | None = None


@dataclass(frozen=True)
class MatrixRow:
    """A row of a matrix: head, one cell per task, and the mean over the tasks seen."""

    head: str
    cells: list[MatrixCell]
    mean: str


@dataclass(frozen=True)
class MatrixView:
    """One metric after each task. `forgotten` has one value per task but the last, and `forgetting` their mean."""

    title: str
    rows: list[MatrixRow]
    forgotten: list[str] = field(default_factory=list)
    forgetting: str = ""


@dataclass(frozen=True)
class StreamView:
    """Values of `stream.html`.

    Attributes:
        tasks: categories of each task, as text.
        last_head: when the last row was measured.
        stream_metrics: columns of `final_metrics`.
        final_metrics: (title, values) of each metric at the end of the stream.
        not_in_mean: (metrics, category) that the means leave out.
        charts: over the tasks; empty for a single row.
    """

    strategy: str
    num_trained: int
    num_categories: int
    tasks: list[str]
    last_head: str
    key_metric: str
    stream_metrics: list[Metric]
    final_metrics: list[tuple[str, list[str]]]
    not_in_mean: list[tuple[str, str]]
    task_rows: list[TaskRow]
    matrices: list[MatrixView]
    charts: list[Markup]
    method: MethodView | None


def stream_view(stream: Stream | None) -> StreamView | None:
    """Prepare the section; None for a run that is not continual."""
    if stream is None:
        return None
    return StreamView(
        strategy=stream.strategy,
        num_trained=stream.num_trained(),
        num_categories=sum(map(len, stream.tasks)),
        tasks=[", ".join(task) for task in stream.tasks],
        last_head=_row_head(stream, stream.num_rows - 1),
        key_metric=title_of(stream.key_metric),
        stream_metrics=[METRICS[name] for name in STREAM],
        final_metrics=[
            (title_of(name), [percent(values.get(key)) for key in STREAM]) for name, values in stream.last.items()
        ],
        not_in_mean=_not_in_mean(stream),
        task_rows=[_task_row(stream, task) for task in range(len(stream.tasks))],
        matrices=[matrix for name in (*SUMMARY, *CLASS_METRICS) if (matrix := _matrix(stream, name))],
        charts=_charts(stream),
        method=stream_method_view(stream),
    )


def _row_head(stream: Stream, row: int) -> str:
    return "after all" if stream.is_joint else f"after {row}"


def _not_in_mean(stream: Stream) -> list[tuple[str, str]]:
    missing: dict[str, list[str]] = {}
    for name in stream.matrices:
        for number, task in enumerate(stream.tasks):
            seen = [row for i, row in enumerate(stream.classes) if number < stream.num_trained(i)]
            for category in task:
                if any(row.get(category, {}).get(name) is None for row in seen):
                    missing.setdefault(category, []).append(name)
    return [(", ".join(names), category) for category, names in missing.items()]


def _task_row(stream: Stream, task: int) -> TaskRow:
    categories, rows = ", ".join(stream.tasks[task]), stream.matrices.get(stream.key_metric, [])
    after_training = rows[task][task] if task < len(rows) and not stream.is_joint else None
    metrics = {
        "metric_after_training": percent(after_training),
        "metric_now": percent(rows[-1][task] if rows else None),
    }
    if task >= stream.num_rows:
        return TaskRow(categories, **metrics)
    return TaskRow(
        categories,
        seconds=f"{stream.seconds[task]:.1f}",
        parameters=f"{stream.params_total[task]:,}",
        trained_parameters=f"{stream.params_trainable[task]:,}",
        **metrics,
    )


# ------------------------------------------------------------------------------------------------ matrices


def _matrix(stream: Stream, name: str) -> MatrixView | None:
    """Prepare the matrix of a metric; None if it has no values."""
    rows = stream.matrices.get(name, [])
    seen = [value for i, row in enumerate(rows) for value in row[: stream.num_trained(i)] if value is not None]
    if not seen:
        return None
    low = min(seen)
    span = max(max(seen) - low, _MIN_SPAN)
    views = []
    for index, row in enumerate(rows):
        trained = stream.num_trained(index)
        cells = [
            _cell(value, (low, span), task < trained, task == index and not stream.is_joint)
            for task, value in enumerate(row)
        ]
        views.append(MatrixRow(_row_head(stream, index), cells, _percent1(average(rows[: index + 1], trained))))
    if stream.is_joint or len(rows) < 2:
        return MatrixView(title_of(name), views)
    return MatrixView(
        title_of(name), views, [_percent1(value) for value in forgetting_per_task(rows)], _percent1(forgetting(rows))
    )


def _cell(value: float | None, scale: tuple[float, float], is_seen: bool, is_new: bool) -> MatrixCell:
    style = "" if is_seen else "later"
    if value is None:
        return MatrixCell("n/a", style=style)
    low, span = scale
    depth = f"{_PALEST + (DEEPEST - _PALEST) * (value - low) / span:.1f}" if is_seen else None
    return MatrixCell(_percent1(value), percent(value), "new" if is_new else style, depth)


def _percent1(value: float | None) -> str:
    """Percent with one decimal."""
    return "n/a" if value is None else fixed(100 * value, 1)


# ------------------------------------------------------------------------------------------------ charts


def _charts(stream: Stream) -> list[Markup]:
    if stream.num_rows < 2:
        return []
    return [
        _metric_chart(stream, METRICS["acc"].title, "acc"),
        _metric_chart(stream, "Forgetting, from best", "fm"),
        series_chart("Parameters, millions", _parameters(stream), x_label="task", from_zero=True),
    ]


def _metric_chart(stream: Stream, title: str, key: str) -> Markup:
    series = [Series(title_of(name), stream.over_tasks(name, key)) for name in (*SUMMARY, *CLASS_METRICS)]
    return series_chart(title, series, shares=True, x_label="task")


def _parameters(stream: Stream) -> Sequence[Series]:
    counts = {"all": stream.params_total, "trained by the task": stream.params_trainable}
    return [Series(name, [(task, value / 1e6) for task, value in enumerate(values)]) for name, values in counts.items()]
