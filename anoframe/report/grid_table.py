"""The table of a grid: a row a config and category, each figure over the seeds with how sure it is.

Runs are sorted by the rule of `anoframe.report.compare`: what may not share a table gets another one, and a figure is
never taken over runs that differ in more than their seed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any
from zlib import crc32

import numpy as np

from anoframe.evaluation.results import percent
from anoframe.metrics.bootstrap import (
    DRAWS,
    LEVEL,
    Floats,
    draw_images,
    draws_of_images,
    draws_of_values,
    interval,
)
from anoframe.metrics.catalogue import HEADLINE, title_of
from anoframe.report.compare import Column, Table, identity, seed_of, sort_into_tables, what_differs
from anoframe.report.run_record import Category, RunRecord
from anoframe.report.stream_record import Stream

SHOWN = ("image_auroc", "pixel_auroc", "aupro")
FROM_SCORES = ("image_auroc", "image_ap", "image_f1max")  # what the scores of images are enough for
IMAGES, SEEDS = "test images", "seeds"
MEAN, ACC, FM = "mean", "ACC", "FM"  # rows that sum up
STREAMED = {ACC: "acc", FM: "fm"}  # of a stream of tasks -> its key in `results/continual.json`
NOTE = (
    f"Percent; higher is better. Mean ± sample standard deviation over seeds, then a {100 * LEVEL:.0f} % bootstrap "
    f"interval ({DRAWS} draws). For image metrics it says how far other test images would move the mean; for pixel "
    "metrics, and only with several seeds, how far other seeds would, of which few are known: read it as their spread."
)
NOTE_ON_STREAMS = (
    f"{ACC} is the mean over the tasks of a stream after the last of them, {FM} what was forgotten, from the best "
    "(lower is better); their intervals are over seeds."
)


@dataclass(frozen=True)
class Figure:
    """One metric of one row."""

    values: Mapping[int, float]  # seed -> value
    interval: tuple[float, float] | None = None
    drawn: str | None = None  # what the interval draws again: test images, or seeds
    categories: tuple[str, ...] = ()  # that it is the mean over, for a row of means

    @property
    def mean(self) -> float:
        return mean(self.values.values())

    @property
    def std(self) -> float | None:
        """Over seeds; None for one."""
        return stdev(self.values.values()) if len(self.values) > 1 else None

    def text(self) -> str:
        """
        >>> Figure({0: 0.9, 1: 0.92}, (0.85, 0.95)).text()
        '91.00 ± 1.41 [85.00, 95.00]'
        """
        spread = "" if self.std is None else f" ± {100 * self.std:.2f}"
        around = "" if self.interval is None else f" [{', '.join(map(percent, self.interval))}]"
        return f"{percent(self.mean)}{spread}{around}"


@dataclass(frozen=True)
class Row:
    """A config on a category; where `category` is None, what sums up its categories or its stream."""

    config: str
    category: str | None
    figures: Mapping[str, Figure]  # metric -> figure; a metric that is not available is not there
    runs: Mapping[int, Path]  # seed -> run folder
    summary: str | None = None  # MEAN, ACC or FM

    @property
    def label(self) -> str:
        return self.category or self.summary or ""


@dataclass(frozen=True)
class GridTable:
    """Rows that may stand side by side: those of a category together, what sums them up last."""

    facts: Mapping[str, Any]  # what all of its runs share
    configs: Mapping[str, list[str]]  # config -> its weights, and what differs between configs
    categories: tuple[str, ...]
    rows: Sequence[Row]
    chosen: frozenset[str] = frozenset()  # configs whose epoch was chosen on the test set

    @property
    def metrics(self) -> list[str]:
        """Headline metrics in their usual order, then others."""
        found = dict.fromkeys(name for row in self.rows for name in row.figures)
        return [*(name for name in HEADLINE if name in found), *(name for name in found if name not in HEADLINE)]

    @property
    def notes(self) -> str:
        """How to read it."""
        return f"{NOTE} {NOTE_ON_STREAMS}" if any(row.summary in STREAMED for row in self.rows) else NOTE

    def best(self, row: Row, metric: str) -> bool:
        """Whether no other config does better in such a row, and some do worse; of those that chose no epoch by it."""
        rivals = [
            one.figures[metric].mean
            for one in self.rows
            if (one.category, one.summary) == (row.category, row.summary)
            and metric in one.figures
            and one.config not in self.chosen
        ]
        if row.config in self.chosen or min(rivals) == max(rivals):
            return False
        return row.figures[metric].mean == (min(rivals) if row.summary == FM else max(rivals))


@dataclass(frozen=True)
class Failure:
    """A cell without a result, or without that of some category, and why."""

    cell: str
    reason: str


@dataclass(frozen=True)
class GridSummary:
    """All that the files of a grid say."""

    tables: list[GridTable]
    refusals: list[str]  # why there is more than one table
    seeds: tuple[int, ...]  # that were asked for
    failures: list[Failure] = field(default_factory=list)


def summarise(runs: Sequence[RunRecord], seeds: Sequence[int], failures: Sequence[Failure] = ()) -> GridSummary:
    """Tables of finished runs; rows and columns come in the order of the runs."""
    groups, refusals = sort_into_tables(runs)
    return GridSummary([_table(group) for group in groups], refusals, tuple(seeds), list(failures))


def missing(figure: Figure, table: GridTable, seeds: Sequence[int]) -> str:
    """What a figure lacks of what was asked for; empty where nothing."""
    parts = []
    if len(figure.values) < len(seeds):
        parts.append(f"{len(figure.values)} of {len(seeds)} seeds")
    if figure.categories and len(figure.categories) < len(table.categories):
        parts.append(f"{len(figure.categories)} of {len(table.categories)} categories")
    return ", ".join(parts)


# ------------------------------------------------------------------------------------------------ figures


@dataclass(frozen=True)
class _Config:
    """The runs of one config: category -> seed -> what is known of it."""

    name: str
    known: dict[str, dict[int, Category]]
    folders: dict[str, dict[int, Path]]
    streams: dict[int, Stream]  # seed -> of runs on a stream of tasks

    @classmethod
    def of(cls, name: str, runs: Sequence[RunRecord]) -> _Config:
        one = cls(name, {}, {}, {seed_of(run): run.stream for run in runs if run.stream})
        for run in runs:
            for category in run.evaluated:
                one.known.setdefault(category.name, {})[seed_of(run)] = category
                one.folders.setdefault(category.name, {})[seed_of(run)] = run.folder
        return one

    def values(self, category: str, metric: str) -> dict[int, float]:
        found = {seed: one.metrics.get(metric) for seed, one in self.known.get(category, {}).items()}
        return {seed: value for seed, value in found.items() if value is not None}


def _table(runs: Sequence[RunRecord]) -> GridTable:
    columns: list[Column] = []
    for run in runs:
        for column in columns:
            if identity(column.runs[0]) == identity(run):
                column.runs.append(run)
                break
        else:
            columns.append(Column([run]))
    names = _unique([column.runs[0].name for column in columns])
    configs = [_Config.of(name, column.runs) for name, column in zip(names, columns, strict=True)]
    categories = tuple(dict.fromkeys(category.name for run in runs for category in run.evaluated))
    rows = [_row(config, category) for category in categories for config in configs if category in config.known]
    if len(categories) > 1:
        rows += [_mean_row(config, configs, categories) for config in configs]
    rows += [_stream_row(config, kind) for kind in STREAMED for config in configs if config.streams]
    about = {name: _about(Table(columns), column.runs[0]) for name, column in zip(names, columns, strict=True)}
    chosen = frozenset(name for name, column in zip(names, columns, strict=True) if column.chosen_on_test)
    return GridTable(_facts(runs), about, categories, rows, chosen)


def _unique(names: Sequence[str]) -> list[str]:
    """Runs of one config that differ in weights or versions are rows of their own."""
    return [name if names.index(name) == i else f"{name} #{names[: i + 1].count(name)}" for i, name in enumerate(names)]


def _row(config: _Config, category: str) -> Row:
    known = config.known[category]
    draws = _image_draws(category, list(known.values()))
    figures = {}
    for metric in dict.fromkeys(name for one in known.values() for name in one.metrics):
        values = config.values(category, metric)
        if values:
            figures[metric] = _figure(metric, values, draws.get(metric))
    return Row(config.name, category, figures, config.folders[category])


def _mean_row(config: _Config, configs: Sequence[_Config], categories: Sequence[str]) -> Row:
    """Over the categories where every config has the metric, and the seeds that give this one all of them."""
    figures = {}
    for metric in dict.fromkeys(m for seeds in config.known.values() for one in seeds.values() for m in one.metrics):
        shared = [name for name in categories if all(other.values(name, metric) for other in configs)]
        found = {name: config.values(name, metric) for name in shared}
        seeds = [seed for seed in next(iter(found.values()), {}) if all(seed in one for one in found.values())]
        if seeds:
            values = {seed: mean(one[seed] for one in found.values()) for seed in seeds}
            draws = [_image_draws(name, [config.known[name][seed] for seed in seeds]).get(metric) for name in shared]
            whole = [one for one in draws if one is not None]
            over = np.mean(whole, axis=0) if len(whole) == len(shared) else None
            figures[metric] = _figure(metric, values, over, tuple(shared))
    return Row(config.name, None, figures, {}, MEAN)


def _stream_row(config: _Config, kind: str) -> Row:
    """ACC or FM of each metric at the end of the stream, where it is available."""
    figures = {}
    for metric in dict.fromkeys(name for stream in config.streams.values() for name in stream.last):
        found = {seed: stream.last.get(metric, {}).get(STREAMED[kind]) for seed, stream in config.streams.items()}
        values = {seed: value for seed, value in found.items() if value is not None}
        if values:
            figures[metric] = _over_seeds(values)
    return Row(config.name, None, figures, {}, kind)


def _figure(
    metric: str, values: Mapping[int, float], image_draws: Floats | None, categories: tuple[str, ...] = ()
) -> Figure:
    if metric in FROM_SCORES:
        around = None if image_draws is None else interval(image_draws)
        return Figure(values, around, IMAGES if around else None, categories)
    return _over_seeds(values, categories)


def _over_seeds(values: Mapping[int, float], categories: tuple[str, ...] = ()) -> Figure:
    if len(values) < 2:
        return Figure(values, categories=categories)
    draws = draws_of_values(list(values.values()), np.random.default_rng(0))
    return Figure(values, interval(draws), SEEDS, categories)


def _image_draws(name: str, known: Sequence[Category]) -> dict[str, Floats]:
    """Draws are fixed by the name of the category: a row does not depend on what else is in the grid."""
    images = [one.images for one in known if one.images]
    if not images or len(images) < len(known):
        return {}
    labels = [image.is_defect for image in images[0]]
    scores = [[image.score for image in one] for one in images]
    return draws_of_images(labels, scores, draw_images(labels, np.random.default_rng(crc32(name.encode()))))


def _facts(runs: Sequence[RunRecord]) -> dict[str, Any]:
    made = runs[0].provenance
    counts = {name: value for run in runs for name, value in run.provenance.get("counts", {}).items()}
    return {"protocol": made.get("protocol"), "data": made.get("data", {}), "counts": counts}


def _about(table: Table, run: RunRecord) -> list[str]:
    backbone, selected = run.provenance.get("backbone") or {}, run.provenance.get("selected")
    lines = [f"selected: {selected}"] if selected else []
    if backbone:
        lines.append(f"{backbone.get('name')}, weights {str(backbone.get('sha256'))[:12]}")
    return lines + what_differs(table, run)


# ------------------------------------------------------------------------------------------------ as text


def heading(table: GridTable) -> list[str]:
    """What all runs of a table share, in words."""
    data = table.facts["data"]
    return [
        str(data.get("name")),
        f"{table.facts['protocol']} protocol",
        f"{data.get('crop')} x {data.get('crop')} pixels",
    ]


def markdown(summary: GridSummary) -> str:
    """What `grid.md` holds and the console shows."""
    blocks = [_markdown_table(table, summary.seeds) for table in summary.tables]
    blocks += [f"Not in one table: {reason}." for reason in summary.refusals]
    blocks += [f"Failed: {failure.cell}: {failure.reason}" for failure in summary.failures]
    return "\n\n".join(blocks) + "\n"


def _markdown_table(table: GridTable, seeds: Sequence[int]) -> str:
    lines = [f"{', '.join(heading(table))}; seeds {', '.join(map(str, seeds))}", ""]
    lines += [_line(["category", "config", *(title_of(name) for name in SHOWN)]), "|---|---|--:|--:|--:|"]
    lines += [_line([row.label, row.config, *(_cell(table, row, name, seeds) for name in SHOWN)]) for row in table.rows]
    lines += ["", *(f"- {name}: {'; '.join(about)}" for name, about in table.configs.items()), "", table.notes]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return " | ".join(["", *(cell.replace("|", "\\|") for cell in cells), ""]).strip()


def _cell(table: GridTable, row: Row, metric: str, seeds: Sequence[int]) -> str:
    figure = row.figures.get(metric)
    if figure is None:
        return "n/a"
    text = f"**{figure.text()}**" if table.best(row, metric) else figure.text()
    lacks = missing(figure, table, seeds)
    return f"{text} ({lacks})" if lacks else text


def csv_rows(table: GridTable) -> tuple[list[str], list[list[Any]]]:
    """Columns, and a row each: full precision, None where not available. Five columns a metric."""
    columns = ["config", "category", "protocol", *(f"data.{key}" for key in table.facts["data"])]
    for metric in table.metrics:
        columns += [metric, *(f"{metric}_{part}" for part in ("std", "low", "high", "seeds"))]
    same = [table.facts["protocol"], *table.facts["data"].values()]
    return columns, [
        [row.config, row.label, *same, *(value for metric in table.metrics for value in _five(row.figures.get(metric)))]
        for row in table.rows
    ]


def _five(figure: Figure | None) -> list[Any]:
    if figure is None:
        return [None] * 5
    return [figure.mean, figure.std, *(figure.interval or (None, None)), len(figure.values)]


def csv_text(table: GridTable) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns, rows = csv_rows(table)
    writer.writerows([columns, *(["" if value is None else value for value in row] for row in rows)])
    return text.getvalue()


def as_json(summary: GridSummary, home: Path) -> dict[str, Any]:
    """What `grid.json` holds: every value, run folders as seen from `home`. Equal grids give equal trees."""
    return {
        "seeds": list(summary.seeds),
        "interval": {"level": LEVEL, "draws": DRAWS},
        "tables": [
            {
                **table.facts,
                "configs": table.configs,
                "rows": [
                    {
                        "config": row.config,
                        "category": row.category,
                        "summary": row.summary,
                        "metrics": {name: _figure_json(figure) for name, figure in row.figures.items()},
                        "runs": {str(seed): path_from(home, folder) for seed, folder in row.runs.items()},
                    }
                    for row in table.rows
                ],
            }
            for table in summary.tables
        ],
        "refusals": summary.refusals,
        "failed": {failure.cell: failure.reason for failure in summary.failures},
    }


def path_from(home: Path, folder: Path) -> str:
    """A run folder as the files of the grid name it: its grid's folder may move with it."""
    return folder.relative_to(home).as_posix() if folder.is_relative_to(home) else folder.as_posix()


def _figure_json(figure: Figure) -> dict[str, Any]:
    facts: dict[str, Any] = {"mean": figure.mean, "std": figure.std, "interval": figure.interval}
    facts |= {"drawn": figure.drawn, "seeds": {str(seed): value for seed, value in figure.values.items()}}
    return facts | ({"categories": figure.categories} if figure.categories else {})
