"""Method summary: scalars, charts and tables, shown in the same way for every method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from anoframe.models.summary import MethodSummary, Series, Table
from anoframe.report.charts import Series as Line
from anoframe.report.charts import number, series_chart
from anoframe.report.stream_record import Stream

DEEPEST = 45  # percent of the strongest shade: text on it is readable in light and dark mode


@dataclass(frozen=True)
class Cell:
    """A cell of a table; `depth` is the percentage of its shade, None for none."""

    text: str
    depth: str | None = None


@dataclass(frozen=True)
class TableView:
    """A table of a method. The first cell of each row is its head."""

    title: str
    note: str
    columns: Sequence[str]
    rows: list[list[Cell]]
    is_shaded: bool


@dataclass(frozen=True)
class MethodView:
    """Values of `method.html`; `scalars` are (name, value) and stay empty where charts show them."""

    scalars: list[tuple[str, str]]
    charts: list[Markup]
    tables: list[TableView]


def method_view(summary: MethodSummary) -> MethodView:
    """Prepare the summary of a single fit."""
    scalars = [(_label(name), number(value)) for name, value in summary.scalars.items()]
    return MethodView(scalars, _series_charts(summary.series), [_table(table) for table in summary.tables])


def stream_method_view(stream: Stream) -> MethodView | None:
    """Prepare the summaries of a stream: scalars over the tasks, and tables and series of the latest task."""
    if not stream.summaries:
        return None
    last = stream.summaries[-1]
    charts = _scalar_charts(stream) + _series_charts(last.series)
    tables = [_table(table) for table in last.tables]
    return MethodView([], charts, tables) if charts or tables else None


# ------------------------------------------------------------------------------------------------ charts


def _scalar_charts(stream: Stream) -> list[Markup]:
    """One chart over the tasks per group of scalars."""
    groups: dict[str, list[Line]] = {}
    for name in dict.fromkeys(name for summary in stream.summaries for name in summary.scalars):
        group, _, label = name.rpartition("/")
        groups.setdefault(group or "method", []).append(Line(_label(label), stream.scalar_over_tasks(name)))
    return [series_chart(_label(group).capitalize(), lines, x_label="task") for group, lines in groups.items()]


def _series_charts(series: Sequence[Series]) -> list[Markup]:
    """One chart per quantity that x counts."""
    groups: dict[str, list[Series]] = {}
    for line in series:
        groups.setdefault(line.x_label, []).append(line)
    return [
        series_chart(
            _label(lines[0].name).capitalize() if len(lines) == 1 else "Values of the method",
            [Line(_label(line.name), line.points) for line in lines],
            x_label=x_label,
        )
        for x_label, lines in groups.items()
        if any(line.points for line in lines)
    ]


def _label(name: str) -> str:
    return name.replace("_", " ")


# ------------------------------------------------------------------------------------------------ tables


def _table(table: Table) -> TableView:
    values = [value for row in table.rows for value in row[1:] if isinstance(value, (int, float))]
    low, high = min([0.0, *values]), max([0.0, *values])

    def cell(value: str | float | int | None, is_head: bool) -> Cell:
        depth = None
        if table.shaded and not is_head and isinstance(value, (int, float)) and high > low:
            depth = f"{DEEPEST * (value - low) / (high - low):.1f}"
        return Cell(_text(value), depth)

    rows = [[cell(value, index == 0) for index, value in enumerate(row)] for row in table.rows]
    return TableView(table.title, table.note, table.columns, rows, table.shaded)


def _text(value: str | float | int | None) -> str:
    if value is None:
        return "n/a"
    return number(value) if isinstance(value, float) else str(value)
