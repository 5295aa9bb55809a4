"""Several runs side by side, and never in one table what is not comparable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import combinations
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from anoframe.config import flatten
from anoframe.errors import AnoframeError
from anoframe.evaluation.results import HEADLINE, Metrics, percent
from anoframe.files import digest, write_atomic
from anoframe.report.continual import COLUMNS
from anoframe.report.folder import Category, RunRecord, read_run
from anoframe.report.page import ORACLES, document
from anoframe.report.stream import Stream
from anoframe.run_folder import NO_RESULT

TITLES = {
    "image_auroc": "Image AUROC",
    "image_ap": "Image AP",
    "image_f1max": "Image F1-max",
    "pixel_auroc": "Pixel AUROC",
    "pixel_ap": "Pixel AP",
    "pixel_f1max": "Pixel F1-max",
    "aupro": "AUPRO",
    "iou_max": "IoU-max",
}
# What changes no result, or what a column says beside its config
_NOT_COMPARED = ("config_name", "seed", "categories", "device", *NO_RESULT)
_MOST_CHANGES = 8
_CHOSEN = "‡ the epoch was chosen on the test set"


@dataclass
class Column:
    """Runs that differ in their seed alone."""

    runs: list[RunRecord]

    @property
    def seeds(self) -> list[Any]:
        return [seed_of(run) for run in self.runs]

    @property
    def chosen_on_test(self) -> bool:
        return self.runs[0].chosen_on_test

    def values(self, category: str, metric: str) -> list[float]:
        """Of the runs that have it."""
        found = (_metrics(run, category).get(metric) for run in self.runs)
        return [value for value in found if value is not None]

    def has(self, category: str) -> bool:
        return any(category in _categories(run) for run in self.runs)


@dataclass
class Table:
    """Runs that may stand side by side."""

    columns: list[Column] = field(default_factory=list)

    @property
    def runs(self) -> list[RunRecord]:
        return [run for column in self.columns for run in column.runs]

    @property
    def categories(self) -> list[str]:
        return list(dict.fromkeys(name for run in self.runs for name in _categories(run)))

    def shared(self, metric: str) -> list[str]:
        """Categories for which every run has the metric: what a mean can be compared over."""
        return [
            name for name in self.categories if all(_metrics(run, name).get(metric) is not None for run in self.runs)
        ]


@dataclass(frozen=True)
class Comparison:
    """Tables, and why there is more than one."""

    tables: list[Table]
    refusals: list[str]  # a sentence each: both runs, the keys and both values


def compare(folders: Sequence[str | Path]) -> Comparison:
    """Sort runs into tables of what is comparable, and their seeds into columns.

    Runs share a table where dataset, preprocessing, protocol, and the sample counts and test images of the categories
    that both have are the same. Backbone weights, seed and config may differ: the column heads say so. A run whose
    epoch was chosen on the test set shares no column with one that reports its last, and is never marked as the best.

    Raises:
        AnoframeError: fewer than two runs, no run folder, or one without results.
    """
    if len(folders) < 2:
        raise AnoframeError("a comparison takes two runs or more: tools/report.py RUN RUN ...")
    groups, refusals = sort_into_tables(list(map(read_finished, folders)))
    tables = []
    for group in groups:
        tables.append(Table())
        for run in group:
            _add(tables[-1], run)
    return Comparison(tables, refusals)


def sort_into_tables(runs: Sequence[RunRecord]) -> tuple[list[list[RunRecord]], list[str]]:
    """Runs in groups of what may share a table, and a sentence a refusal: which two, which keys, both values."""
    groups: list[list[RunRecord]] = []
    refusals: list[str] = []
    for run in runs:
        reasons = [_first_reason(group, run) for group in groups]
        if None in reasons:
            groups[reasons.index(None)].append(run)
        else:
            refusals += [reason for reason in reasons if reason]
            groups.append([run])
    return groups, refusals


def write_comparison(folders: Sequence[str | Path], path: str | Path) -> Comparison:
    """Write the comparison as one self-contained page; what could not share a table is said in it and returned."""
    comparison = compare(folders)
    write_atomic(Path(path), comparison_page(comparison))
    return comparison


def differences(one: RunRecord, other: RunRecord) -> list[str]:
    """What keeps two runs out of one table, as `key: value and value`."""
    facts = [dict(_facts(run)) for run in (one, other)]
    for run, counted in zip((other, one), facts, strict=True):  # counts of categories that both have
        for key in [key for key in counted if key.startswith("counts.") and key.split(".")[1] not in _categories(run)]:
            del counted[key]
    for known, found in zip(facts, facts[::-1], strict=True):  # runs of earlier versions do not say which images
        for key in [key for key in known if key.startswith("test_images.") and key not in found]:
            del known[key]
    keys = dict.fromkeys([*facts[0], *facts[1]])
    return [
        f"{key}: {_shown(facts[0].get(key))} and {_shown(facts[1].get(key))}"
        for key in keys
        if facts[0].get(key) != facts[1].get(key)
    ]


# ------------------------------------------------------------------------------------------------ what is comparable


def read_finished(folder: str | Path) -> RunRecord:
    """A run that has results and says where they come from; AnoframeError for any other."""
    run = read_run(folder)
    if not run.evaluated or not run.provenance:
        raise AnoframeError(f"{folder} has no metrics.json with results: let the run finish, or leave it out")
    return run


def _first_reason(group: Sequence[RunRecord], run: RunRecord) -> str | None:
    for known in group:
        found = differences(known, run)
        if found:
            return f"{known.folder} and {run.folder} do not share a table, they differ in {'; '.join(found)}"
    return None


def _facts(run: RunRecord) -> Iterable[tuple[str, Any]]:
    made = run.provenance
    yield "protocol", made.get("protocol")
    for key, value in made.get("data", {}).items():
        yield "dataset" if key == "name" else f"data.{key}", value
    if run.stream:
        yield "tasks", "; ".join(", ".join(task) for task in run.stream.tasks)
    for category, counts in made.get("counts", {}).items():
        for key, value in counts.items():
            # a dot in a category's name would look like another key
            yield f"counts.{category.replace('.', '_')}.{key}", value
    for known in run.categories:
        if known.images is not None:
            names = "\n".join(image.name for image in known.images)
            yield f"test_images.{known.name}", digest(names.encode())[:12]


def _shown(value: Any) -> str:
    return "not known" if value is None else repr(value) if isinstance(value, str) else str(value)


def _add(table: Table, run: RunRecord) -> None:
    """To the column that differs from it in the seed alone, or to one of its own."""
    for column in table.columns:
        if identity(column.runs[0]) == identity(run) and seed_of(run) not in column.seeds:
            column.runs.append(run)
            return
    table.columns.append(Column([run]))


def identity(run: RunRecord) -> tuple[Any, ...]:
    """What runs share that differ in their seed and categories alone."""
    made = run.provenance
    versions = sorted(made.get("versions", {}).items())
    weights = made.get("backbone", {}).get("sha256")
    return run.name, _settings(run), weights, made.get("git"), versions, made.get("selected")


def _settings(run: RunRecord) -> dict[str, Any]:
    return {key: value for key, value in flatten(run.config) if not key.startswith(_NOT_COMPARED)}


def seed_of(run: RunRecord) -> Any:
    return run.provenance.get("seed", run.config.get("seed"))


def _categories(run: RunRecord) -> dict[str, Category]:
    return {category.name: category for category in run.categories}


def _metrics(run: RunRecord, category: str) -> Metrics:
    found = _categories(run).get(category)
    return found.metrics if found else {}


# ------------------------------------------------------------------------------------------------ the page


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
        name for name in HEADLINE if any(name in _metrics(run, c) for run in table.runs for c in table.categories)
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
    return TITLES[metric] + ("<sup>†</sup>" if metric in ORACLES else "")


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


def what_differs(table: Table, run: RunRecord) -> list[str]:
    firsts = [column.runs[0] for column in table.columns]
    settings = [_settings(first) for first in firsts]
    keys = dict.fromkeys(key for one, other in combinations(settings, 2) for key in _unequal(one, other))
    own = _settings(run)
    lines = [f"{key} {own.get(key, 'not set')}" for key in keys]
    if len(lines) > _MOST_CHANGES:
        lines = [*lines[:_MOST_CHANGES], f"and {len(lines) - _MOST_CHANGES} more"]
    for name in ("git", "versions"):
        values = [first.provenance.get(name) for first in firsts]
        if any(value != values[0] for value in values):
            lines.append(f"{name} {_brief(run.provenance.get(name))}")
    return lines


def _unequal(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return [key for key in dict.fromkeys([*one, *other]) if one.get(key) != other.get(key)]


def _brief(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return "not known" if value is None else str(value)[:12]


def _metric_table(table: Table, metric: str, heads: Sequence[str]) -> str:
    rows = "".join(_metric_row(table, metric, category) for category in table.categories)
    foot = f"<tfoot>{_mean_row(table, metric)}</tfoot>"
    return _frame(f"{TITLES[metric]} of each run", "Category", heads, rows, foot)


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
        [mean(_metrics(run, c)[metric] or 0.0 for c in shared) for run in column.runs] for column in table.columns
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
    failed = [found for run in column.runs if (found := _categories(run).get(category)) and found.failed is not None]
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
        title = f"{TITLES[metric]} over the stream"
        parts += f"<h3>{title}</h3>{_frame(title, 'At the end', heads, rows)}"
    took = "".join(_took_row(table, name, measure) for name, measure in _TOOK.items())
    note = '<p class="note">Of ↓ the lowest is bold. What a run took is the mean over its seeds.</p>'
    return f"{note}{parts}<h3>What it took</h3>{_frame('What it took', 'Of the stream', heads, took)}"


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
