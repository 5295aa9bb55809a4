"""Page that shows several runs side by side (`templates/comparison.html`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from markupsafe import Markup

from anoframe.evaluation.disclosure import held_out_text, list_remarks
from anoframe.evaluation.results import percent
from anoframe.metrics.catalogue import HEADLINE, METRICS, STREAM, SUMMARY, names_of, title_of
from anoframe.report.charts import Series, series_chart
from anoframe.report.compare import (
    Column,
    Comparison,
    Table,
    categories_of,
    compare,
    describe_backbone,
    describe_data,
    describe_differences,
    metrics_of,
    shared_facts,
)
from anoframe.report.stream_record import Stream
from anoframe.report.templating import render
from anoframe.utils.files import write_atomic

# Charts over tasks: ACC and forgetting of the first image-level and the first pixel-level metric of the catalogue.
_CHARTED_METRICS = (names_of("image")[0], names_of("pixel")[0])
_CHARTED_STREAM_METRICS = ("acc", "fm")


@dataclass(frozen=True)
class _Heading:
    """Heading of a column.

    Attributes:
        name: config name.
        folders: run folders, one per line.
        details: seeds, weights, and the values that differ between the columns.
        chosen_on_test: whether the epoch was chosen on the test set.
    """

    name: str
    folders: str
    details: list[str]
    chosen_on_test: bool


@dataclass(frozen=True)
class _Cell:
    """One table cell; `value` is what sorting uses, None if not available."""

    text: str
    value: float | None = None
    note: str = ""
    is_best: bool = False


@dataclass(frozen=True)
class _Row:
    label: str
    cells: Sequence[_Cell]
    tooltip: str = ""
    note: str = ""


@dataclass(frozen=True)
class _TableView:
    """One table of the page.

    Attributes:
        title: heading, and name for screen readers.
        first_column: heading of the first column.
        footer: row of means; None for none.
        oracle: mark the heading as a metric that takes its threshold from the test labels.
    """

    title: str
    first_column: str
    rows: Sequence[_Row]
    footer: _Row | None = None
    oracle: bool = False


def write_comparison(folders: Sequence[str | Path], path: str | Path) -> Comparison:
    """Compare runs, write the comparison as one self-contained page, and return it."""
    comparison = compare(folders)
    write_atomic(Path(path), comparison_page(comparison))
    return comparison


def comparison_page(comparison: Comparison) -> str:
    """Render the whole page, self-contained like a report."""
    sections = [
        {
            "heading": " · ".join(describe_data(shared_facts(table.runs))),
            "any_chosen": any(column.chosen_on_test for column in table.columns),
            "columns": [_heading(table, column) for column in table.columns],
            "stream_tables": _stream_tables(table),
            "charts": _stream_charts(table),
            "cost": _cost_table(table),
            "tables": _metric_tables(table),
        }
        for table in comparison.tables
    ]
    num_runs = sum(len(table.runs) for table in comparison.tables)
    return render("comparison.html", num_runs=num_runs, refusals=comparison.refusals, sections=sections)


def _heading(table: Table, column: Column) -> _Heading:
    run = column.runs[0]
    seeds = ", ".join(str(seed) for seed in column.seeds)
    details = [f"{'seed' if len(column.runs) == 1 else 'seeds'} {seeds}"]
    details += describe_backbone(run) + describe_differences(table, run) + list_remarks(run.provenance)
    folders = "\n".join(str(run.folder) for run in column.runs)
    return _Heading(run.name, folders, details, column.chosen_on_test)


# ------------------------------------------------------------------------------------------------ metrics


def _metric_tables(table: Table) -> list[_TableView]:
    """One table per headline metric that any run has."""
    views = []
    for metric in HEADLINE:
        if any(metric in metrics_of(run, category) for run in table.runs for category in table.categories):
            rows = [_metric_row(table, metric, category) for category in table.categories]
            footer = _mean_row(table, metric)
            views.append(_TableView(title_of(metric), "Category", rows, footer, METRICS[metric].oracle))
    return views


def _metric_row(table: Table, metric: str, category: str) -> _Row:
    values = [column.values(category, metric) for column in table.columns]
    cells = _metric_cells(table, values, [_why_missing(column, category) for column in table.columns])
    held_out = held_out_text(shared_facts(table.runs).get("held_out", {}).get(category))
    return _Row(category, cells, note=f"held out {held_out}" if held_out else "")


def _mean_row(table: Table, metric: str) -> _Row:
    """Row of means over the categories for which every run has the metric; without cells if there is none."""
    shared = table.shared_categories(metric)
    if not shared:
        return _Row("mean", [])
    values = [
        [mean(metrics_of(run, category)[metric] or 0.0 for category in shared) for run in column.runs]
        for column in table.columns
    ]
    return _Row(f"mean of {len(shared)} shared", _metric_cells(table, values))


def _metric_cells(
    table: Table,
    values: Sequence[Sequence[float]],
    missing: Sequence[str] | None = None,
    higher_is_better: bool = True,
) -> list[_Cell]:
    """Cells of a row, with the best one marked if several columns can be compared.

    Args:
        values: one list per column, with one value per run that has it.
        missing: text of the cells without a value, one per column; None for "n/a".
    """
    can_win = [not column.chosen_on_test for column in table.columns]
    means = [mean(each) for each, allowed in zip(values, can_win, strict=True) if each and allowed]
    best = (max(means) if higher_is_better else min(means)) if len(means) > 1 else None
    cells = []
    for i, each in enumerate(values):
        if not each:
            cells.append(_Cell(missing[i] if missing else "n/a"))
            continue
        deviation = f" ± {100 * stdev(each):.2f}" if len(each) > 1 else ""
        num_runs = len(table.columns[i].runs)
        note = f"{len(each)} of {num_runs} seeds" if len(each) < num_runs else ""
        is_best = can_win[i] and mean(each) == best
        cells.append(_Cell(percent(mean(each)) + deviation, mean(each), note, is_best))
    return cells


def _why_missing(column: Column, category: str) -> str:
    if not column.has(category):
        return "absent"
    records = [categories_of(run).get(category) for run in column.runs]
    return "failed" if any(record is not None and record.failed is not None for record in records) else "n/a"


# ------------------------------------------------------------------------------------------------ streams of tasks


def _stream_tables(table: Table) -> list[_TableView]:
    """One table per summary metric with its stream metrics after the last task; empty without continual runs."""
    if not any(run.stream for run in table.runs):
        return []
    return [
        _TableView(
            f"{title_of(metric)} over the stream",
            "After the last task",
            [_stream_row(table, metric, name) for name in STREAM],
        )
        for metric in SUMMARY
    ]


def _stream_row(table: Table, metric: str, name: str) -> _Row:
    info = METRICS[name]
    values = [_stream_values(column, lambda stream: stream.last.get(metric, {}).get(name)) for column in table.columns]
    cells = _metric_cells(table, values, higher_is_better=info.higher_is_better)
    return _Row(info.title if info.higher_is_better else f"{info.title} ↓", cells, info.description)


def _stream_charts(table: Table) -> list[Markup]:
    """Charts over tasks with one line per column: the mean over its seeds."""
    if not any(run.stream for run in table.runs):
        return []
    return [_stream_chart(table, metric, name) for metric in _CHARTED_METRICS for name in _CHARTED_STREAM_METRICS]


def _stream_chart(table: Table, metric: str, name: str) -> Markup:
    lines = []
    for column in table.columns:
        values: dict[int, list[float]] = {}  # task -> one value per seed
        label = ""
        for stream in (run.stream for run in column.runs if run.stream):
            label = f"{column.runs[0].name}, {stream.strategy}"
            for task, value in stream.over_tasks(metric, name):
                values.setdefault(task, []).append(value)
        if values:
            lines.append(Series(label, [(task, mean(values[task])) for task in sorted(values)]))
    title = f"{title_of(metric)}: {title_of(name)}"
    return Markup(series_chart(title, lines, shares=True, x_label="task"))


def _cost_table(table: Table) -> _TableView | None:
    """Parameters, training time and the scalars of the method summaries; None without continual runs."""
    streams = [run.stream for run in table.runs if run.stream]
    if not streams:
        return None
    rows = [
        _cost_row(table, "parameters, millions", lambda stream: stream.params_total[-1] / 1e6),
        _cost_row(table, "training time, seconds", lambda stream: sum(stream.seconds)),
    ]
    names = dict.fromkeys(name for stream in streams for name in stream.last_scalars())
    rows += [_scalar_row(table, name) for name in names]
    return _TableView("Cost and method summary", "After the last task", rows)


def _cost_row(table: Table, label: str, measure: Callable[[Stream], float | None]) -> _Row:
    values = [
        _stream_values(column, lambda stream: measure(stream) if stream.num_rows else None) for column in table.columns
    ]
    return _Row(label, [_Cell(f"{mean(each):,.2f}", mean(each)) if each else _Cell("n/a") for each in values])


def _scalar_row(table: Table, name: str) -> _Row:
    return _cost_row(table, name, lambda stream: stream.last_scalars().get(name))


def _stream_values(column: Column, measure: Callable[[Stream], float | None]) -> list[float]:
    """One value per run of the column that has it."""
    values = (measure(run.stream) for run in column.runs if run.stream)
    return [value for value in values if value is not None]
