"""`grid.html`: tables and charts of a grid, with links to the reports of its runs (`templates/grid.html`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from anoframe.evaluation.results import percent
from anoframe.metrics.catalogue import SUMMARY, title_of
from anoframe.report.charts import nice_ticks, number
from anoframe.report.compare import describe_data
from anoframe.report.grid_export import relative_path
from anoframe.report.grid_table import FM, Figure, GridSummary, GridTable, Row, describe_missing
from anoframe.report.templating import render

_AXIS_UNITS = 1000  # width of a chart in SVG units; the page stretches it
_MIN_AXIS_PIXELS = 105  # width of the axis in a narrow window (.dot-plot in report.css)
_CHARACTER_PIXELS = 8  # of a tick label
_LABEL_GAP_PIXELS = 6  # between two tick labels


@dataclass(frozen=True)
class _Cell:
    """One table cell; `value` is what sorting uses, None if not available."""

    text: str
    value: float | None = None
    notes: Sequence[str] = ()
    is_best: bool = False


@dataclass(frozen=True)
class _Axis:
    """Horizontal axis of a dot chart, from `low` to `high`."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Position as a share of the width."""
        return (value - self.low) / (self.high - self.low)

    def x(self, value: float) -> str:
        """Position in SVG units."""
        return f"{_AXIS_UNITS * self.share(value):.1f}"


def grid_page(summary: GridSummary, folder: Path) -> str:
    """Render the whole page.

    Args:
        folder: the folder that the page will lie in; links are relative to it.
    """
    sections = [
        {
            "heading": " · ".join(describe_data(table.facts)),
            "rows": [_row(table, row, summary.seeds, folder) for row in table.rows if row.category is not None],
            "summary_rows": [_row(table, row, summary.seeds, folder) for row in table.rows if row.category is None],
            "notes": table.notes,
            "configs": {name: "; ".join(lines) or "no differences" for name, lines in table.configs.items()},
            "charts": [chart for metric in SUMMARY if (chart := _dot_chart(table, metric))],
        }
        for table in summary.tables
    ]
    return render(
        "grid.html",
        configs=list(dict.fromkeys(name for table in summary.tables for name in table.configs)),
        seeds=summary.seeds,
        failures=summary.failures,
        refusals=summary.refusals,
        metric_titles=[title_of(metric) for metric in SUMMARY],
        sections=sections,
    )


# ------------------------------------------------------------------------------------------------ table


def _row(table: GridTable, row: Row, seeds: Sequence[int], folder: Path) -> dict[str, Any]:
    reports = {seed: f"{quote(relative_path(run, folder))}/report.html" for seed, run in row.runs.items()}
    cells = [_cell(table, row, metric, seeds) for metric in SUMMARY]
    return {
        "label": row.label,
        "held_out": table.held_out(row),
        "config": row.config,
        "cells": cells,
        "reports": reports,
    }


def _cell(table: GridTable, row: Row, metric: str, seeds: Sequence[int]) -> _Cell:
    figure = row.figures.get(metric)
    if figure is None:
        return _Cell("n/a")
    notes = [] if figure.interval is None else [" to ".join(map(percent, figure.interval))]
    notes += [missing] if (missing := describe_missing(figure, table, seeds)) else []
    return _Cell(figure.mean_text(), figure.mean, notes, table.is_best(row, metric))


# ------------------------------------------------------------------------------------------------ dot charts


def _dot_chart(table: GridTable, metric: str) -> dict[str, Any] | None:
    """Chart with one line per row of the table: a dot per seed, the mean and the interval. None without values.

    Rows of FM are left out: their range is another one.
    """
    rows = [row for row in table.rows if metric in row.figures and row.summary != FM]
    if not rows:
        return None
    axis = _fit_axis([row.figures[metric] for row in rows])
    groups: list[dict[str, Any]] = []  # rows of one category or summary, below its label
    for row in rows:
        if not groups or groups[-1]["label"] != row.label:
            groups.append({"label": row.label, "lines": []})
        groups[-1]["lines"].append(_dot_line(row, row.figures[metric], axis))
    ticks = [{"left": f"{100 * axis.share(tick / 100):.2f}%", "text": number(tick)} for tick in _ticks(axis)]
    return {"title": title_of(metric), "groups": groups, "ticks": ticks}


def _dot_line(row: Row, figure: Figure, axis: _Axis) -> dict[str, Any]:
    return {
        "config": row.config,
        "label": f"{row.label}, {row.config}: {figure.text()}",
        "interval": None if figure.interval is None else [axis.x(bound) for bound in figure.interval],
        "dots": [axis.x(value) for value in figure.values.values()],
        "mean": axis.x(figure.mean),
        "text": percent(figure.mean),
    }


def _fit_axis(figures: Sequence[Figure]) -> _Axis:
    """Axis over all values and intervals with a margin of 4 %, within [0, 1]."""
    values = [value for figure in figures for value in (*figure.values.values(), *(figure.interval or ()))]
    low, high = min(values), max(values)
    margin = max((high - low) * 0.04, 0.002)
    return _Axis(max(low - margin, 0.0), min(high + margin, 1.0))


def _ticks(axis: _Axis) -> list[float]:
    """Round percents along the axis: as many as have room for their labels in a narrow window."""
    low, high = 100 * axis.low, 100 * axis.high
    ticks: list[float] = []
    for count in range(6, 0, -1):
        ticks = nice_ticks(low, high, count)
        if len(ticks) < 2:
            break
        label = max(len(number(tick)) for tick in ticks) * _CHARACTER_PIXELS
        if (ticks[1] - ticks[0]) / (high - low) * _MIN_AXIS_PIXELS >= label + _LABEL_GAP_PIXELS:
            break
    return ticks
