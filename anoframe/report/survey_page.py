"""`survey.html`: tables and dot plots of a survey of encoders (`templates/survey.html`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anoframe.evaluation.results import percent
from anoframe.report.dot_plot import Line, dot_plot
from anoframe.report.grid_table import Figure
from anoframe.report.survey_table import (
    FACTS,
    NOTE,
    NOTE_ON_INTERVALS,
    Column,
    SurveySection,
    SurveyTable,
    metric_title,
    missing_seeds,
)
from anoframe.report.templating import render


def survey_page(table: SurveyTable) -> str:
    """Render the whole page."""
    return render(
        "survey.html",
        seeds=table.seeds,
        encoders=[row.name for row in table.encoders],
        notes=[f"{row.name}: {row.note}" for row in table.encoders if row.note],
        failures=table.failures,
        refusals=table.refusals,
        note=NOTE,
        note_on_intervals=NOTE_ON_INTERVALS,
        titles=[column.title for column in table.columns],
        overview=[_overview_row(table, row.name) for row in table.encoders],
        fact_titles=list(FACTS.values()),
        facts=[{"name": row.name, "values": [row.facts[key] for key in FACTS]} for row in table.encoders],
        sections=[_section(section, table.seeds) for section in table.sections if section.rows],
        plots=[plot for column in table.columns if (plot := _plot(column, table))],
    )


def _overview_row(table: SurveyTable, encoder: str) -> dict[str, Any]:
    cells = []
    for column in table.columns:
        cells.append(_cell(column.figure(encoder), column.is_best(encoder), table.seeds))
    return {"name": encoder, "cells": cells}


def _section(section: SurveySection, seeds: Sequence[int]) -> dict[str, Any]:
    rows = []
    for row in section.rows:
        cells = []
        for metric in section.metrics:
            figure = row.figures.get(metric)
            is_best = figure is not None and figure.mean == section.best(row.label, metric)
            cells.append(_cell(figure, is_best, seeds))
        rows.append({"label": row.label, "name": row.encoder, "cells": cells})
    label = "Probe" if section.kind == "classification" else "Category"
    titles = [metric_title(metric) for metric in section.metrics]
    return {"name": section.name, "label": label, "titles": titles, "rows": rows}


def _cell(figure: Figure | None, is_best: bool, seeds: Sequence[int]) -> dict[str, Any]:
    if figure is None:
        return {"text": "n/a", "value": None, "notes": [], "is_best": False}
    notes = [] if figure.interval is None else [" to ".join(map(percent, figure.interval))]
    notes += [missing] if (missing := missing_seeds(figure, seeds)) else []
    return {"text": figure.mean_text(), "value": figure.mean, "notes": notes, "is_best": is_best}


def _plot(column: Column, table: SurveyTable) -> dict[str, Any] | None:
    figures = {row.name: column.figure(row.name) for row in table.encoders}
    return dot_plot(column.title, [Line("", name, figure) for name, figure in figures.items() if figure is not None])
