"""`grid.html`: tables and charts of a grid, with links to the reports of its runs (`templates/grid.html`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from anoframe.evaluation.results import percent
from anoframe.metrics.catalogue import SUMMARY, title_of
from anoframe.report.compare import describe_data
from anoframe.report.dot_plot import Line, dot_plot
from anoframe.report.grid_export import relative_path
from anoframe.report.grid_table import FM, GridSummary, GridTable, Row, describe_missing
from anoframe.report.templating import render


@dataclass(frozen=True)
class _Cell:
    """One table cell; `value` is what sorting uses, None if not available."""

    text: str
    value: float | None = None
    notes: Sequence[str] = ()
    is_best: bool = False


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
            "charts": [chart for metric in SUMMARY if (chart := _dot_plot(table, metric))],
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


# ------------------------------------------------------------------------------------------------ dot plots


def _dot_plot(table: GridTable, metric: str) -> dict[str, Any] | None:
    """Plot with one line per row of the table. Rows of FM are left out: their range is another one."""
    rows = [row for row in table.rows if metric in row.figures and row.summary != FM]
    return dot_plot(title_of(metric), [Line(row.label, row.config, row.figures[metric]) for row in rows])
