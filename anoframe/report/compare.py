"""Which runs may stand side by side: what is not comparable is never in one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from anoframe.config import flatten
from anoframe.config.comparison import RESULT_NEUTRAL_KEYS
from anoframe.errors import AnoframeError
from anoframe.evaluation.results import Metrics
from anoframe.report.run_record import Category, RunRecord, read_run
from anoframe.utils.files import digest

# What changes no result, or what a column says beside its config
_NOT_COMPARED = ("config_name", "seed", "categories", "device", *RESULT_NEUTRAL_KEYS)
_MOST_CHANGES = 8


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
        found = (metrics_of(run, category).get(metric) for run in self.runs)
        return [value for value in found if value is not None]

    def has(self, category: str) -> bool:
        return any(category in categories_of(run) for run in self.runs)


@dataclass
class Table:
    """Runs that may stand side by side."""

    columns: list[Column] = field(default_factory=list)

    @property
    def runs(self) -> list[RunRecord]:
        return [run for column in self.columns for run in column.runs]

    @property
    def categories(self) -> list[str]:
        return list(dict.fromkeys(name for run in self.runs for name in categories_of(run)))

    def shared(self, metric: str) -> list[str]:
        """Categories for which every run has the metric: what a mean can be compared over."""
        return [
            name for name in self.categories if all(metrics_of(run, name).get(metric) is not None for run in self.runs)
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


def differences(one: RunRecord, other: RunRecord) -> list[str]:
    """What keeps two runs out of one table, as `key: value and value`."""
    facts = [dict(_facts(run)) for run in (one, other)]
    for run, counted in zip((other, one), facts, strict=True):  # counts of categories that both have
        for key in [
            key for key in counted if key.startswith("counts.") and key.split(".")[1] not in categories_of(run)
        ]:
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


def categories_of(run: RunRecord) -> dict[str, Category]:
    return {category.name: category for category in run.categories}


def metrics_of(run: RunRecord, category: str) -> Metrics:
    found = categories_of(run).get(category)
    return found.metrics if found else {}


def what_differs(table: Table, run: RunRecord) -> list[str]:
    firsts = [column.runs[0] for column in table.columns]
    settings = [_settings(first) for first in firsts]
    keys = dict.fromkeys(key for one, other in combinations(settings, 2) for key in _unequal(one, other))
    own = _settings(run)
    first = sorted(keys, key=lambda key: key != "protocol.strategy")  # what a column of a stream is, and not cut off
    lines = [f"{key} {own.get(key, 'not set')}" for key in first]
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
