"""Tables of a survey of encoders as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anoframe.metrics.bootstrap import DRAWS, LEVEL
from anoframe.report.grid_table import Figure
from anoframe.report.survey_table import (
    FACTS,
    NOTE,
    NOTE_ON_INTERVALS,
    SurveySection,
    SurveyTable,
    metric_title,
    missing_seeds,
)


def survey_markdown(table: SurveyTable) -> str:
    """Content of `survey.md`, which the console shows too."""
    blocks = [_overview(table), NOTE, _encoders(table)]
    blocks += [f"{section.name}:\n\n{_section(section, table)}" for section in table.sections if section.rows]
    blocks += [NOTE_ON_INTERVALS]
    blocks += [f"{row.name}: {row.note}" for row in table.encoders if row.note]
    blocks += [f"Not comparable: {reason}." for reason in table.refusals]
    blocks += [f"Failed: {failure.cell}: {failure.reason}" for failure in table.failures]
    return "\n\n".join(blocks) + "\n"


def _overview(table: SurveyTable) -> str:
    """One row per encoder: its training, and every evaluation."""
    head = ["encoder", "epochs", "images", *(column.title for column in table.columns)]
    rows = []
    for row in table.encoders:
        cells = [
            _cell(column.figure(row.name), column.is_best(row.name), table.seeds, with_interval=False)
            for column in table.columns
        ]
        rows.append([row.name, row.facts["epochs"], row.facts["images"], *cells])
    return f"Seeds {', '.join(map(str, table.seeds))}\n\n{_markdown_table(head, rows, text_columns=1)}"


def _encoders(table: SurveyTable) -> str:
    rows = [[row.name, *(row.facts[key] for key in FACTS)] for row in table.encoders]
    return _markdown_table(["encoder", *FACTS.values()], rows, text_columns=3)


def _section(section: SurveySection, table: SurveyTable) -> str:
    label = "probe" if section.kind == "classification" else "category"
    rows = []
    for row in section.rows:
        best = {metric: section.best(row.label, metric) for metric in section.metrics}
        figures = {metric: row.figures.get(metric) for metric in section.metrics}
        cells = [
            _cell(figure, figure is not None and figure.mean == best[metric], table.seeds)
            for metric, figure in figures.items()
        ]
        rows.append([row.label, row.encoder, *cells])
    return _markdown_table([label, "encoder", *map(metric_title, section.metrics)], rows, text_columns=2)


def _cell(figure: Figure | None, is_best: bool, seeds: Sequence[int], with_interval: bool = True) -> str:
    if figure is None:
        return "n/a"
    text = figure.text() if with_interval else figure.mean_text()
    missing = missing_seeds(figure, seeds)
    return (f"**{text}**" if is_best else text) + (f" ({missing})" if missing else "")


def _markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int) -> str:
    alignment = "|" + "---|" * text_columns + "--:|" * (len(head) - text_columns)
    return "\n".join([_markdown_line(head), alignment, *map(_markdown_line, rows)])


def _markdown_line(cells: Iterable[str]) -> str:
    return " | ".join(["", *(cell.replace("|", "\\|") for cell in cells), ""]).strip()


def survey_csv(table: SurveyTable) -> str:
    """Content of `survey.csv`: one row per figure, in full precision; values that are not available are left out."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["encoder", *FACTS, "evaluation", "kind", "category", "metric", "mean", "std", "low", "high", "seeds"]
    )
    facts = {row.name: [row.facts[key] for key in FACTS] for row in table.encoders}
    for section in table.sections:
        for row in section.rows:
            for metric, figure in row.figures.items():
                low, high = figure.interval or ("", "")
                std = "" if figure.std is None else figure.std
                place = [row.encoder, *facts[row.encoder], section.name, section.kind, row.label, metric]
                writer.writerow([*place, figure.mean, std, low, high, len(figure.values)])
    return text.getvalue()


def survey_json(table: SurveyTable, config: Mapping[str, Any]) -> dict[str, Any]:
    """Content of `survey.json`: config, encoders, and the value of every seed."""
    return {
        "config": config,
        "seeds": list(table.seeds),
        "interval": {"level": LEVEL, "draws": DRAWS},
        "encoders": {row.name: {**row.facts, **({"note": row.note} if row.note else {})} for row in table.encoders},
        "evaluations": {
            section.name: {
                "kind": section.kind,
                "rows": [
                    {
                        "encoder": row.encoder,
                        "category": row.label,
                        "metrics": {metric: _figure_json(figure) for metric, figure in row.figures.items()},
                    }
                    for row in section.rows
                ],
            }
            for section in table.sections
        },
        "refusals": table.refusals,
        "failed": {failure.cell: failure.reason for failure in table.failures},
    }


def _figure_json(figure: Figure) -> dict[str, Any]:
    seeds = {str(seed): value for seed, value in figure.values.items()}
    return {"mean": figure.mean, "std": figure.std, "interval": figure.interval, "seeds": seeds}
