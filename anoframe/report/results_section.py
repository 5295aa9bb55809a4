"""First section of the report: headline numbers, and the table of all categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from anoframe.evaluation.disclosure import sum_held_out
from anoframe.evaluation.results import Metrics, percent
from anoframe.metrics.catalogue import HEADLINE, METRICS, SUMMARY, names_of, title_of
from anoframe.report.category_record import WRONG, Category
from anoframe.report.run_record import RunRecord

HeldOut = Mapping[str, Mapping[str, int]]  # category -> `good` and `defect` test images of a split; empty: not shown


@dataclass(frozen=True)
class Tile:
    """A headline number, with a note below it."""

    title: str
    value: str
    note: str


@dataclass(frozen=True)
class Column:
    """A column head, with its tooltip. An oracle takes its threshold from the test labels."""

    title: str
    tooltip: str
    is_oracle: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of the table of categories.

    Attributes:
        kind: `metric`, `count` or `missing`.
        text: shown value.
        sort_value: the value by which the script of the page sorts.
        share: length of the bar below a metric, in percent.
        is_marked: a metric is an oracle, or a count is above 0.
    """

    kind: str
    text: str = "n/a"
    sort_value: str = ""
    share: str = ""
    is_marked: bool = False


@dataclass(frozen=True)
class Row:
    """A row of the table: cells, or instead of them the reason why there are none."""

    name: str
    cells: Sequence[Cell]
    reason: str = ""


@dataclass(frozen=True)
class CategoryTable:
    """The table of all categories.

    Attributes:
        groups: (title, number of columns) of each group of columns.
        mean: cells of the last row; None for a single category.
        mean_tooltip: what the last row holds.
        not_in_mean: (metrics, category) that the means leave out.
    """

    groups: list[tuple[str, int]]
    columns: list[Column]
    rows: list[Row]
    mean: list[Cell] | None
    mean_tooltip: str
    not_in_mean: list[tuple[str, str]]


def is_oracle(name: str) -> bool:
    """Whether a metric takes its threshold from the test labels."""
    return name in METRICS and METRICS[name].oracle


# ------------------------------------------------------------------------------------------------ tiles


def result_tiles(run: RunRecord) -> list[Tile]:
    """Return the headline numbers; empty if no category is evaluated."""
    if not run.evaluated:
        return []
    mean = run.mean or run.evaluated[0].metrics
    tiles = [Tile(title_of(name), percent(mean.get(name)), _averaged_over(run, name)) for name in SUMMARY]
    outcomes = [counts for category in run.evaluated if (counts := category.count_outcomes())]
    if outcomes:
        total = {name: sum(counts[name] for counts in outcomes) for name in outcomes[0]}
        defects, good = total["missed"] + total["found"], total["false alarm"] + total["passed"]
        tiles.append(Tile(title_of("misses"), str(total["missed"]), f"of {defects}, at the threshold of the run"))
        tiles.append(Tile(title_of("false_alarms"), str(total["false alarm"]), f"of {good} good images"))
    return tiles


def _averaged_over(run: RunRecord, metric: str) -> str:
    """Name the categories of a headline number; a mean says how many categories have the metric."""
    total = len(run.evaluated)
    if total == 1:
        return run.evaluated[0].name
    available = sum(category.metrics.get(metric) is not None for category in run.evaluated)
    return f"mean of {total} categories" if available == total else f"mean of {available} of {total} categories"


# ------------------------------------------------------------------------------------------------ table


def category_table(run: RunRecord) -> CategoryTable:
    """Return the table: headline metrics, wrong decisions, then further metrics, which a narrow screen cuts off."""
    images, pixels = names_of("image", headline=True), names_of("pixel", headline=True)
    further = list(dict.fromkeys(name for c in run.evaluated for name in c.metrics if name not in HEADLINE))
    decided = any(category.count_outcomes() for category in run.evaluated)
    held_out = run.provenance.get("held_out", {})
    sizes = {"Image": len(images), "Pixel": len(pixels), "Wrong decisions": 2 * decided, "Held out": 2 * bool(held_out)}
    sizes["More"] = len(further)
    columns = [_metric_column(name) for name in (*images, *pixels)]
    if decided:
        columns += [Column(METRICS[name].short_title, METRICS[name].description) for name in ("misses", "false_alarms")]
    if held_out:
        columns.append(Column("Good", "good test images"))
        columns.append(Column("Defects", "defect test images"))
    columns += [_metric_column(name) for name in further]
    several = len(run.evaluated) > 1
    return CategoryTable(
        groups=[(title, size) for title, size in sizes.items() if size],
        columns=columns,
        rows=[_row(category, decided, held_out, further) for category in run.categories],
        mean=_mean_cells(run, decided, held_out, further) if several else None,
        mean_tooltip="mean, and sum of the counts" if decided or held_out else "mean",
        not_in_mean=_not_in_mean(run) if several else [],
    )


def _metric_column(name: str) -> Column:
    return Column(METRICS[name].short_title if name in METRICS else title_of(name), name, is_oracle(name))


def _row(category: Category, decided: bool, held_out: HeldOut, further: Sequence[str]) -> Row:
    if not category.metrics:
        return Row(category.name, [], category.failed if category.failed is not None else "not evaluated")
    outcomes = category.count_outcomes() if decided else None
    counts = held_out.get(category.name, {}) if held_out else None
    return Row(category.name, _cells(category.metrics, outcomes, counts, further))


def _mean_cells(run: RunRecord, decided: bool, held_out: HeldOut, further: Sequence[str]) -> list[Cell]:
    outcomes = [category.count_outcomes() for category in run.evaluated]
    sums = {name: sum(counts.get(name, 0) for counts in outcomes) for name in WRONG} if decided else None
    return _cells(run.mean, sums, sum_held_out(held_out.values()) if held_out else None, further)


def _cells(
    metrics: Metrics,
    outcomes: Mapping[str, int] | None,
    held_out: Mapping[str, int] | None,
    further: Sequence[str],
) -> list[Cell]:
    """Return the cells of a row; `outcomes` and `held_out` are None if no category of the run has them."""
    cells = [_metric_cell(name, metrics.get(name)) for name in HEADLINE]
    if outcomes is not None:
        cells += [_count_cell(outcomes.get(name)) for name in WRONG]
    if held_out is not None:
        cells += [replace(_count_cell(held_out.get(name)), is_marked=False) for name in ("good", "defect")]
    return cells + [_metric_cell(name, metrics.get(name)) for name in further]


def _metric_cell(name: str, value: float | None) -> Cell:
    if value is None:
        return Cell("missing")
    share = f"{100 * min(max(value, 0), 1):.1f}%"
    return Cell("metric", percent(value), repr(value), share, is_oracle(name))


def _count_cell(value: int | None) -> Cell:
    return Cell("missing") if value is None else Cell("count", str(value), str(value), is_marked=value > 0)


def _not_in_mean(run: RunRecord) -> list[tuple[str, str]]:
    """List, for each category, the metrics that other categories have and it lacks."""
    available = {name for category in run.evaluated for name, value in category.metrics.items() if value is not None}
    missing: dict[str, list[str]] = {}
    for category in run.evaluated:
        for name, value in category.metrics.items():
            if value is None and name in available:
                missing.setdefault(category.name, []).append(name)
    return [(", ".join(names), category) for category, names in missing.items()]
