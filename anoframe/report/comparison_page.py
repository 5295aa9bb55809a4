"""The page that shows several runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from statistics import mean, stdev

from anoframe.evaluation.results import percent
from anoframe.metrics.catalogue import HEADLINE, title_of
from anoframe.report.charts import Series, epoch_chart
from anoframe.report.compare import Column, Comparison, Table, categories_of, compare, metrics_of, what_differs
from anoframe.report.page import ORACLES, document
from anoframe.report.stream_record import Stream
from anoframe.report.stream_section import COLUMNS
from anoframe.utils.files import write_atomic

_CHOSEN = "‡ the epoch was chosen on the test set"


def write_comparison(folders: Sequence[str | Path], path: str | Path) -> Comparison:
    """Write the comparison as one self-contained page; what could not share a table is said in it and returned."""
    comparison = compare(folders)
    write_atomic(Path(path), comparison_page(comparison))
    return comparison


def comparison_page(comparison: Comparison) -> str:
    """The whole page, self-contained like a report."""
    runs = sum(len(table.runs) for table in comparison.tables)
    title = f"Comparison of {runs} runs"
    refusals = "".join(f'<p class="alert">{escape(reason)}</p>' for reason in comparison.refusals)
    if refusals:
        refusals = f"<section><h2>Not in one table</h2>{refusals}</section>"
    sections = "".join(_section(table) for table in comparison.tables)
    head = f'<header><p class="brand">anoframe comparison</p><h1>{title}</h1></header>'
    return document(title, f"{head}<main>{refusals}{sections}</main>")


def _section(table: Table) -> str:
    data = table.runs[0].provenance.get("data", {})
    protocol = table.runs[0].provenance.get("protocol")
    facts = [data.get("name"), f"{protocol} protocol", f"{data.get('crop')} x {data.get('crop')} pixels"]
    metrics = [
        name for name in HEADLINE if any(name in metrics_of(run, c) for run in table.runs for c in table.categories)
    ]
    heads = [_column_head(table, column) for column in table.columns]
    tables = "".join(f"<h3>{_title(metric)}</h3>{_metric_table(table, metric, heads)}" for metric in metrics)
    note = (
        "Percent; higher is better, the highest of a row is bold. Several seeds: mean and standard deviation. "
        "† takes its threshold from the test labels (an oracle). A mean is over the categories that every run has."
    )
    if any(column.chosen_on_test for column in table.columns):
        note += " ‡ reports the epoch that was best on the test set, which no user can choose: it is never bold."
    return (
        f'<section class="comparison"><h2>{escape(" · ".join(str(fact) for fact in facts))}</h2>'
        f'<p class="note">{note}</p>{_streams(table, heads)}{tables}</section>'
    )


def _title(metric: str) -> str:
    return title_of(metric) + ("<sup>†</sup>" if metric in ORACLES else "")


def _column_head(table: Table, column: Column) -> str:
    """What a column is: config, seeds, weights, and what else differs between the columns of the table."""
    run = column.runs[0]
    backbone = run.provenance.get("backbone", {})
    seeds = ", ".join(str(seed) for seed in column.seeds)
    lines = [f"{'seed' if len(column.runs) == 1 else 'seeds'} {seeds}"]
    if backbone:
        lines.append(f"{backbone.get('name')}, weights {str(backbone.get('sha256'))[:12]}")
    lines += what_differs(table, run)
    if column.chosen_on_test:
        lines.append(_CHOSEN)
    folders = "\n".join(str(run.folder) for run in column.runs)
    small = "".join(f"<small{' class=bad' if line == _CHOSEN else ''}>{escape(line)}</small>" for line in lines)
    return f'<span title="{escape(folders)}">{escape(run.name)}</span>{small}'


def _metric_table(table: Table, metric: str, heads: Sequence[str]) -> str:
    rows = "".join(_metric_row(table, metric, category) for category in table.categories)
    foot = f"<tfoot>{_mean_row(table, metric)}</tfoot>"
    return _frame(f"{title_of(metric)} of each run", "Category", heads, rows, foot)


def _frame(label: str, first: str, heads: Sequence[str], rows: str, foot: str = "") -> str:
    """A table with a column a column of runs; all its parts are HTML."""
    top = f'<th scope="col" class="name" data-sort="text"><button type="button">{first}</button></th>' + "".join(
        f'<th scope="col" data-sort="number"><button type="button">{head}</button></th>' for head in heads
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table class="metrics sortable">'
        f"<thead><tr>{top}</tr></thead><tbody>{rows}</tbody>{foot}</table></div>"
    )


def _metric_row(table: Table, metric: str, category: str) -> str:
    values = [column.values(category, metric) for column in table.columns]
    best = _best(table, values)
    cells = "".join(
        _cell(found, len(column.runs), None if column.chosen_on_test else best, _why_missing(column, category))
        for column, found in zip(table.columns, values, strict=True)
    )
    return f'<tr><th scope="row">{escape(category)}</th>{cells}</tr>'


def _mean_row(table: Table, metric: str) -> str:
    shared = table.shared(metric)
    if not shared:
        return f'<tr><th scope="row">mean</th><td colspan="{len(table.columns)}">no category is in every run</td></tr>'
    values = [
        [mean(metrics_of(run, c)[metric] or 0.0 for c in shared) for run in column.runs] for column in table.columns
    ]
    best = _best(table, values)
    cells = "".join(
        _cell(found, len(found), None if column.chosen_on_test else best, "")
        for column, found in zip(table.columns, values, strict=True)
    )
    return f'<tr><th scope="row">mean of {len(shared)} shared</th>{cells}</tr>'


def _best(
    table: Table, values: Sequence[Sequence[float]], pick: Callable[[Sequence[float]], float] = max
) -> float | None:
    """The highest mean (or lowest) of columns that chose nothing on the test set, where there are several."""
    own = [found for column, found in zip(table.columns, values, strict=True) if not column.chosen_on_test]
    means = [mean(found) for found in own if found]
    return pick(means) if len(means) > 1 else None


def _why_missing(column: Column, category: str) -> str:
    if not column.has(category):
        return "absent"
    failed = [found for run in column.runs if (found := categories_of(run).get(category)) and found.failed is not None]
    return "failed" if failed else "n/a"


def _cell(values: Sequence[float], runs: int, best: float | None, missing: str) -> str:
    if not values:
        return f'<td class="missing">{missing}</td>'
    text = percent(mean(values))
    if len(values) > 1:
        text += f" ± {100 * stdev(values):.2f}"
    if len(values) < runs:
        text += f" <small>{len(values)} of {runs} seeds</small>"
    style = " class=best" if best is not None and mean(values) == best else ""
    return f'<td{style} data-value="{mean(values)!r}">{text}</td>'


# ------------------------------------------------------------------------------------------------ continual runs

_TOOK: dict[str, Callable[[Stream], float]] = {
    "parameters, millions": lambda stream: stream.params_total[-1] / 1e6,
    "adapters": lambda stream: sum(stream.adapters[-1].values()),
    "seconds of learning": lambda stream: sum(stream.seconds),
}


def _streams(table: Table, heads: Sequence[str]) -> str:
    """What continual runs kept of their streams, and what they took; empty for other runs."""
    if not any(run.stream for run in table.runs):
        return ""
    parts = ""
    for metric in ("image_auroc", "pixel_auroc", "aupro"):
        rows = "".join(_kept_row(table, metric, key) for key in COLUMNS)
        title = f"{title_of(metric)} over the stream"
        parts += f"<h3>{title}</h3>{_frame(title, 'At the end', heads, rows)}"
    charts = "".join(
        _stream_chart(table, f"{title_of(metric)}: {what}", metric, key)
        for metric in ("image_auroc", "pixel_auroc")
        for key, what in (("acc", "ACC"), ("fm", "forgetting, from best"))
    )
    parts += f'<h3>Over tasks</h3><div class="curves training">{charts}</div>'
    took = "".join(_took_row(table, name, measure) for name, measure in _TOOK.items())
    note = '<p class="note">Of ↓ the lowest is bold. What a run took is the mean over its seeds.</p>'
    return f"{note}{parts}<h3>What it took</h3>{_frame('What it took', 'Of the stream', heads, took)}"


def _stream_chart(table: Table, title: str, metric: str, key: str) -> str:
    """A line a column, the mean over its seeds."""
    series = []
    for column in table.columns:
        found: dict[int, list[float]] = {}
        for stream in (run.stream for run in column.runs if run.stream):
            for task, value in stream.over_tasks(metric, key):
                found.setdefault(task, []).append(value)
            label = f"{column.runs[0].name}, {stream.strategy}"
        if found:
            series.append(Series(label, [(task, mean(found[task])) for task in sorted(found)]))
    return epoch_chart(title, series, shares=True, over="task")


def _kept_row(table: Table, metric: str, key: str) -> str:
    head, what, higher = COLUMNS[key]
    values = [_of_streams(column, lambda stream: stream.last.get(metric, {}).get(key)) for column in table.columns]
    best = _best(table, values, max if higher else min)
    cells = "".join(
        _cell(found, len(column.runs), None if column.chosen_on_test else best, "n/a")
        for column, found in zip(table.columns, values, strict=True)
    )
    return f'<tr><th scope="row" title="{what}">{head}{"" if higher else " ↓"}</th>{cells}</tr>'


def _took_row(table: Table, name: str, measure: Callable[[Stream], float]) -> str:
    values = [
        _of_streams(column, lambda stream: measure(stream) if stream.learned else None) for column in table.columns
    ]
    cells = "".join(
        f'<td data-value="{mean(found)!r}">{mean(found):,.2f}</td>' if found else '<td class="missing">n/a</td>'
        for found in values
    )
    return f'<tr><th scope="row">{name}</th>{cells}</tr>'


def _of_streams(column: Column, measure: Callable[[Stream], float | None]) -> list[float]:
    """Of the runs that have it."""
    found = (measure(run.stream) for run in column.runs if run.stream)
    return [value for value in found if value is not None]
