"""Tables of a grid: one row per config and category, each metric with its mean, deviation and interval over seeds.

Runs are grouped by `anoframe.report.compare`: runs that are not comparable get separate tables, and a mean is never
taken over runs that differ in more than their seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any
from zlib import crc32

import numpy as np

from anoframe.evaluation.disclosure import held_out_text, list_remarks, sum_held_out
from anoframe.evaluation.results import percent
from anoframe.metrics.bootstrap import (
    DRAWS,
    LEVEL,
    Floats,
    interval,
    mean_metrics_per_draw,
    mean_per_draw,
    resample_images,
)
from anoframe.metrics.catalogue import HEADLINE, METRICS, names_of
from anoframe.report.category_record import Category
from anoframe.report.compare import (
    Column,
    Table,
    describe_backbone,
    describe_differences,
    group_comparable,
    identity,
    seed_of,
    shared_facts,
)
from anoframe.report.run_record import RunRecord
from anoframe.report.stream_record import Stream

IMAGES, SEEDS = "test images", "seeds"  # what the bootstrap resamples
MEAN, ACC, FM = "mean", METRICS["acc"].title, "FM"  # labels of summary rows
STREAM_METRICS = {ACC: "acc", FM: "fm"}  # label of a summary row -> metric of the stream, see the catalogue
NOTE = (
    f"Percent; higher is better. Mean ± sample standard deviation over seeds, then a {100 * LEVEL:.0f} % bootstrap "
    f"interval ({DRAWS} draws). For image metrics, test images are resampled: the interval shows how far the mean "
    "would move with other test images. For pixel metrics, seeds are resampled, if there are several: with few seeds "
    "the interval is hardly more than their range."
)
NOTE_ON_STREAMS = (
    f"{ACC} is the mean over all tasks after the last task of the stream, {FM} is forgetting from the best value "
    "(lower is better); their intervals are over seeds."
)


@dataclass(frozen=True)
class Figure:
    """One metric of one row.

    Attributes:
        values: seed -> value in [0, 1]; FM may be negative.
        interval: ends of the bootstrap interval; None if not available.
        drawn: what the bootstrap resamples, `IMAGES` or `SEEDS`; None without an interval.
        categories: categories that a mean is taken over; empty for other rows.
    """

    values: Mapping[int, float]
    interval: tuple[float, float] | None = None
    drawn: str | None = None
    categories: tuple[str, ...] = ()

    @property
    def mean(self) -> float:
        return mean(self.values.values())

    @property
    def std(self) -> float | None:
        """Sample standard deviation over seeds; None for a single seed."""
        return stdev(self.values.values()) if len(self.values) > 1 else None

    def text(self) -> str:
        """Format as percent: mean ± deviation [interval].

        >>> Figure({0: 0.9, 1: 0.92}, (0.85, 0.95)).text()
        '91.00 ± 1.41 [85.00, 95.00]'
        """
        bounds = "" if self.interval is None else f" [{', '.join(map(percent, self.interval))}]"
        return f"{self.mean_text()}{bounds}"

    def mean_text(self) -> str:
        """Format as percent: mean ± deviation."""
        return percent(self.mean) + ("" if self.std is None else f" ± {100 * self.std:.2f}")


@dataclass(frozen=True)
class Row:
    """One config on one category, or a summary of its categories or its stream.

    Attributes:
        config: name, unique within the table.
        category: None for a summary row.
        figures: metric -> figure; without metrics that are not available.
        runs: seed -> run folder; empty for a summary row.
        summary: `MEAN`, `ACC` or `FM` for a summary row.
    """

    config: str
    category: str | None
    figures: Mapping[str, Figure]
    runs: Mapping[int, Path]
    summary: str | None = None

    @property
    def label(self) -> str:
        return self.category or self.summary or ""

    @property
    def higher_is_better(self) -> bool:
        """False for forgetting."""
        return METRICS[STREAM_METRICS[self.summary]].higher_is_better if self.summary in STREAM_METRICS else True


@dataclass(frozen=True)
class GridTable:
    """Comparable rows, ordered by category; summary rows come last.

    Attributes:
        facts: `protocol`, `data` and `counts`, which all runs share, and `protocol_tag` and `held_out`, if any.
        configs: config -> its weights, and the values that differ between the configs.
        categories: in the order of the runs.
        rows: see above.
        chosen: configs whose epoch was chosen on the test set.
        remarks: config -> sentences that stand beside its results; may lack configs without any.
    """

    facts: Mapping[str, Any]
    configs: Mapping[str, list[str]]
    categories: tuple[str, ...]
    rows: Sequence[Row]
    chosen: frozenset[str] = frozenset()
    remarks: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def held_out(self, row: Row) -> str:
        """Held-out good and defect images of a row, of a summary row their sums; empty if the table has none."""
        held_out = self.facts.get("held_out")
        if not held_out:
            return ""
        return held_out_text(held_out.get(row.category) if row.category else sum_held_out(held_out.values()))

    @property
    def metrics(self) -> list[str]:
        """Headline metrics in the order of the catalogue, then all others."""
        names = dict.fromkeys(name for row in self.rows for name in row.figures)
        return [*(name for name in HEADLINE if name in names), *(name for name in names if name not in HEADLINE)]

    @property
    def notes(self) -> str:
        """Explanation of the numbers, shown below the table."""
        return f"{NOTE} {NOTE_ON_STREAMS}" if any(row.summary in STREAM_METRICS for row in self.rows) else NOTE

    def is_best(self, row: Row, metric: str) -> bool:
        """Whether no config is better, and some config is worse, on the same category or summary.

        Configs whose epoch was chosen on the test set are left out.
        """
        means = [
            other.figures[metric].mean
            for other in self.rows
            if (other.category, other.summary) == (row.category, row.summary)
            and metric in other.figures
            and other.config not in self.chosen
        ]
        if row.config in self.chosen or min(means) == max(means):
            return False
        return row.figures[metric].mean == (max(means) if row.higher_is_better else min(means))


@dataclass(frozen=True)
class Failure:
    """A failed cell, or a failed category of one.

    Attributes:
        cell: name of the cell, followed by the category if others of the cell succeeded.
        reason: error message.
    """

    cell: str
    reason: str


@dataclass(frozen=True)
class GridSummary:
    """Content of the files of a grid.

    Attributes:
        tables: one per group of comparable runs.
        refusals: why there is more than one table.
        seeds: requested seeds.
        failures: in the order of the cells.
    """

    tables: list[GridTable]
    refusals: list[str]
    seeds: tuple[int, ...]
    failures: list[Failure] = field(default_factory=list)


def summarise(runs: Sequence[RunRecord], seeds: Sequence[int], failures: Sequence[Failure] = ()) -> GridSummary:
    """Build the tables of finished runs; rows follow the order of the runs."""
    groups, refusals = group_comparable(runs)
    return GridSummary([_build_table(group) for group in groups], refusals, tuple(seeds), list(failures))


def describe_missing(figure: Figure, table: GridTable, seeds: Sequence[int]) -> str:
    """Describe the seeds and categories that a figure lacks; empty if it is complete."""
    parts = []
    if len(figure.values) < len(seeds):
        parts.append(f"{len(figure.values)} of {len(seeds)} seeds")
    if figure.categories and len(figure.categories) < len(table.categories):
        parts.append(f"{len(figure.categories)} of {len(table.categories)} categories")
    return ", ".join(parts)


# ------------------------------------------------------------------------------------------------ rows


@dataclass(frozen=True)
class _ConfigRuns:
    """Runs of one config.

    Attributes:
        records: category -> seed -> results.
        folders: category -> seed -> run folder.
        streams: seed -> stream of tasks, for continual runs.
    """

    name: str
    records: dict[str, dict[int, Category]]
    folders: dict[str, dict[int, Path]]
    streams: dict[int, Stream]

    @classmethod
    def from_runs(cls, name: str, runs: Sequence[RunRecord]) -> _ConfigRuns:
        config = cls(name, {}, {}, {seed_of(run): run.stream for run in runs if run.stream})
        for run in runs:
            for category in run.evaluated:
                config.records.setdefault(category.name, {})[seed_of(run)] = category
                config.folders.setdefault(category.name, {})[seed_of(run)] = run.folder
        return config

    def values(self, category: str, metric: str) -> dict[int, float]:
        """Seed -> value, for the seeds that have it."""
        values = {seed: record.metrics.get(metric) for seed, record in self.records.get(category, {}).items()}
        return {seed: value for seed, value in values.items() if value is not None}


def _build_table(runs: Sequence[RunRecord]) -> GridTable:
    columns: list[Column] = []
    for run in runs:
        for column in columns:
            if identity(column.runs[0]) == identity(run):
                column.runs.append(run)
                break
        else:
            columns.append(Column([run]))
    names = _unique_names([column.runs[0].name for column in columns])
    configs = [_ConfigRuns.from_runs(name, column.runs) for name, column in zip(names, columns, strict=True)]
    categories = tuple(dict.fromkeys(category.name for run in runs for category in run.evaluated))
    rows = [
        _category_row(config, category) for category in categories for config in configs if category in config.records
    ]
    if len(categories) > 1:
        rows += [_mean_row(config, configs, categories) for config in configs]
    rows += [_stream_row(config, label) for label in STREAM_METRICS for config in configs if config.streams]
    table = Table(columns)
    notes = {name: _describe_config(table, column.runs[0]) for name, column in zip(names, columns, strict=True)}
    chosen = frozenset(name for name, column in zip(names, columns, strict=True) if column.chosen_on_test)
    remarks = {name: list_remarks(column.runs[0].provenance) for name, column in zip(names, columns, strict=True)}
    return GridTable(shared_facts(runs), notes, categories, rows, chosen, remarks)


def _unique_names(names: Sequence[str]) -> list[str]:
    """Number repeated names: runs of one config that differ in weights or versions get separate rows.

    >>> _unique_names(["a", "b", "a"])
    ['a', 'b', 'a #2']
    """
    return [name if names.index(name) == i else f"{name} #{names[: i + 1].count(name)}" for i, name in enumerate(names)]


def _category_row(config: _ConfigRuns, category: str) -> Row:
    records = config.records[category]
    draws = _draw_images(category, list(records.values()))
    figures = {}
    for metric in dict.fromkeys(name for record in records.values() for name in record.metrics):
        values = config.values(category, metric)
        if values:
            figures[metric] = _make_figure(metric, values, draws.get(metric))
    return Row(config.name, category, figures, config.folders[category])


def _mean_row(config: _ConfigRuns, configs: Sequence[_ConfigRuns], categories: Sequence[str]) -> Row:
    """Build the row of means over the categories for which every config has the metric.

    Only seeds for which this config has all of these categories count.
    """
    figures = {}
    records = [record for seeds in config.records.values() for record in seeds.values()]
    for metric in dict.fromkeys(name for record in records for name in record.metrics):
        shared = [name for name in categories if all(other.values(name, metric) for other in configs)]
        values = {name: config.values(name, metric) for name in shared}
        seeds = [seed for seed in next(iter(values.values()), {}) if all(seed in each for each in values.values())]
        if seeds:
            means = {seed: mean(each[seed] for each in values.values()) for seed in seeds}
            draws = [_draw_images(name, [config.records[name][seed] for seed in seeds]).get(metric) for name in shared]
            complete = [each for each in draws if each is not None]
            mean_draws = np.mean(complete, axis=0) if len(complete) == len(shared) else None
            figures[metric] = _make_figure(metric, means, mean_draws, tuple(shared))
    return Row(config.name, None, figures, {}, MEAN)


def _stream_row(config: _ConfigRuns, label: str) -> Row:
    """Build the row of ACC or FM of each metric after the last task."""
    figures = {}
    key = STREAM_METRICS[label]
    for metric in dict.fromkeys(name for stream in config.streams.values() for name in stream.last):
        all_values = {seed: stream.last.get(metric, {}).get(key) for seed, stream in config.streams.items()}
        values = {seed: value for seed, value in all_values.items() if value is not None}
        if values:
            figures[metric] = resample_seeds(values)
    return Row(config.name, None, figures, {}, label)


def _make_figure(
    metric: str, values: Mapping[int, float], image_draws: Floats | None, categories: tuple[str, ...] = ()
) -> Figure:
    """Image-level metrics resample the test images; pixel-level ones the seeds, because maps are not stored."""
    if metric in names_of("image"):
        bounds = None if image_draws is None else interval(image_draws)
        return Figure(values, bounds, IMAGES if bounds else None, categories)
    return resample_seeds(values, categories)


def resample_seeds(values: Mapping[int, float], categories: tuple[str, ...] = ()) -> Figure:
    """Build a figure whose interval is over seeds; one seed has none."""
    if len(values) < 2:
        return Figure(values, categories=categories)
    draws = mean_per_draw(list(values.values()), np.random.default_rng(0))
    return Figure(values, interval(draws), SEEDS, categories)


def _draw_images(name: str, records: Sequence[Category]) -> dict[str, Floats]:
    """Bootstrap draws of the image-level metrics: metric -> `[DRAWS]`; empty if a record has no image scores.

    The random state depends only on the name of the category, so a row does not depend on other rows.
    """
    images = [record.images for record in records if record.images]
    if not images or len(images) < len(records):
        return {}
    labels = [image.is_defect for image in images[0]]
    scores = [[image.score for image in each] for each in images]
    return mean_metrics_per_draw(labels, scores, resample_images(labels, np.random.default_rng(crc32(name.encode()))))


def _describe_config(table: Table, run: RunRecord) -> list[str]:
    selected = run.provenance.get("selected")
    lines = [f"selected: {selected}"] if selected else []
    return lines + describe_backbone(run) + describe_differences(table, run) + list_remarks(run.provenance)
