"""Tables of a grid as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from anoframe.evaluation.disclosure import HELD_OUT, csv_cells, csv_columns
from anoframe.metrics.bootstrap import DRAWS, LEVEL
from anoframe.metrics.catalogue import SUMMARY, title_of
from anoframe.report.compare import describe_data
from anoframe.report.grid_table import Figure, GridSummary, GridTable, Row, describe_missing


def markdown(summary: GridSummary) -> str:
    """Content of `grid.md`, which the console shows too."""
    blocks = [_markdown_table(table, summary.seeds) for table in summary.tables]
    blocks += [f"Separate tables: {reason}." for reason in summary.refusals]
    blocks += [f"Failed: {failure.cell}: {failure.reason}" for failure in summary.failures]
    return "\n\n".join(blocks) + "\n"


def _markdown_table(table: GridTable, seeds: Sequence[int]) -> str:
    titles = [title_of(name) for name in SUMMARY]
    lines = [f"{', '.join(describe_data(table.facts))}; seeds {', '.join(map(str, seeds))}", ""]
    more = [HELD_OUT] if "held_out" in table.facts else []
    lines += [_markdown_line(["category", "config", *titles, *more]), "|---|---|" + "--:|" * len(titles + more)]
    for row in table.rows:
        cells = [_markdown_cell(table, row, name, seeds) for name in SUMMARY]
        lines.append(_markdown_line([row.label, row.config, *cells, *[table.held_out(row)] * len(more)]))
    lines += ["", *(f"- {name}: {'; '.join(notes)}" for name, notes in table.configs.items()), "", table.notes]
    return "\n".join(lines)


def _markdown_line(cells: Iterable[str]) -> str:
    return " | ".join(["", *(cell.replace("|", "\\|") for cell in cells), ""]).strip()


def _markdown_cell(table: GridTable, row: Row, metric: str, seeds: Sequence[int]) -> str:
    figure = row.figures.get(metric)
    if figure is None:
        return "n/a"
    text = f"**{figure.text()}**" if table.is_best(row, metric) else figure.text()
    missing = describe_missing(figure, table, seeds)
    return f"{text} ({missing})" if missing else text


def csv_rows(table: GridTable) -> tuple[list[str], list[list[Any]]]:
    """Column names and rows in full precision; five columns per metric, None for values that are not available.

    Protocol tag, held-out counts and notes are the last columns, if there are any.
    """
    columns = ["config", "category", "protocol", *(f"data.{key}" for key in table.facts["data"])]
    for metric in table.metrics:
        columns += [metric, *(f"{metric}_{suffix}" for suffix in ("std", "low", "high", "seeds"))]
    shared = [table.facts["protocol"], *table.facts["data"].values()]
    more = csv_columns({**table.facts, "notes": any(table.remarks.values())})
    rows = []
    for row in table.rows:
        values = [value for metric in table.metrics for value in _csv_values(row.figures.get(metric))]
        facts = {**table.facts, "notes": table.remarks.get(row.config, [])}
        rows.append([row.config, row.label, *shared, *values, *csv_cells(facts, row.category, more)])
    return [*columns, *more], rows


def _csv_values(figure: Figure | None) -> list[Any]:
    if figure is None:
        return [None] * 5
    return [figure.mean, figure.std, *(figure.interval or (None, None)), len(figure.values)]


def csv_text(table: GridTable) -> str:
    """Content of `grid.csv`; values that are not available are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns, rows = csv_rows(table)
    writer.writerows([columns, *(["" if value is None else value for value in row] for row in rows)])
    return text.getvalue()


def grid_json(summary: GridSummary, folder: Path) -> dict[str, Any]:
    """Content of `grid.json`: every value, and run folders relative to `folder`. Equal grids give equal trees."""
    return {
        "seeds": list(summary.seeds),
        "interval": {"level": LEVEL, "draws": DRAWS},
        "tables": [
            {
                **table.facts,
                "configs": table.configs,
                **({"notes": noted} if (noted := {name: list(r) for name, r in table.remarks.items() if r}) else {}),
                "rows": [
                    {
                        "config": row.config,
                        "category": row.category,
                        "summary": row.summary,
                        "metrics": {name: _figure_json(figure) for name, figure in row.figures.items()},
                        "runs": {str(seed): relative_path(run, folder) for seed, run in row.runs.items()},
                    }
                    for row in table.rows
                ],
            }
            for table in summary.tables
        ],
        "refusals": summary.refusals,
        "failed": {failure.cell: failure.reason for failure in summary.failures},
    }


def relative_path(run: Path, folder: Path) -> str:
    """A run folder relative to the folder of the grid, so that both can be moved; absolute if it lies elsewhere."""
    return run.relative_to(folder).as_posix() if run.is_relative_to(folder) else run.as_posix()


def _figure_json(figure: Figure) -> dict[str, Any]:
    tree: dict[str, Any] = {"mean": figure.mean, "std": figure.std, "interval": figure.interval}
    tree |= {"drawn": figure.drawn, "seeds": {str(seed): value for seed, value in figure.values.items()}}
    return tree | ({"categories": figure.categories} if figure.categories else {})
