"""Group runs by comparability: runs that are not comparable never share a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from anoframe.config.comparison import fill_later_keys, result_keys
from anoframe.data.preprocessing import size_text
from anoframe.errors import AnoframeError
from anoframe.evaluation.disclosure import describe_protocol
from anoframe.evaluation.results import Metrics
from anoframe.report.category_record import Category
from anoframe.report.run_record import RunRecord, read_run
from anoframe.utils.files import digest

# Config keys that a column heading shows separately, or that describe the machine.
_IGNORED_KEYS = ("config_name", "seed", "categories", "device")
_UNTAGGED = "none, normal training images only"
_MAX_DIFFERENCES = 8  # lines in a column heading


@dataclass
class Column:
    """Runs that differ only in their seed."""

    runs: list[RunRecord]

    @property
    def seeds(self) -> list[Any]:
        return [seed_of(run) for run in self.runs]

    @property
    def chosen_on_test(self) -> bool:
        return self.runs[0].chosen_on_test

    def values(self, category: str, metric: str) -> list[float]:
        """Metric of the runs that have it, in the order of the runs."""
        values = (metrics_of(run, category).get(metric) for run in self.runs)
        return [value for value in values if value is not None]

    def has(self, category: str) -> bool:
        return any(category in categories_of(run) for run in self.runs)


@dataclass
class Table:
    """Comparable runs, in columns."""

    columns: list[Column] = field(default_factory=list)

    @property
    def runs(self) -> list[RunRecord]:
        return [run for column in self.columns for run in column.runs]

    @property
    def categories(self) -> list[str]:
        return list(dict.fromkeys(name for run in self.runs for name in categories_of(run)))

    def shared_categories(self, metric: str) -> list[str]:
        """Categories for which every run has the metric: means are comparable over these."""
        return [
            name for name in self.categories if all(metrics_of(run, name).get(metric) is not None for run in self.runs)
        ]


@dataclass(frozen=True)
class Comparison:
    """Tables of comparable runs.

    Attributes:
        tables: in the order of their first runs.
        refusals: one sentence per pair of runs that may not share a table: both folders, the keys, both values.
    """

    tables: list[Table]
    refusals: list[str]


def compare(folders: Sequence[str | Path]) -> Comparison:
    """Read runs, sort them into tables of comparable runs, and group runs that differ only in their seed as columns.

    Runs share a table if dataset, split, preprocessing, protocol and protocol tag are the same, and also the sample
    counts and test images (names and content) of their common categories. A supervised run never shares a table with
    another one. Backbone weights, seed and config may differ: the column headings
    show this. A run whose epoch was chosen on the test set never shares a column with a run that reports its last
    epoch, and is never marked as the best.

    Raises:
        AnoframeError: Fewer than two folders, a folder that is not a run folder, or a run without results.
    """
    if len(folders) < 2:
        raise AnoframeError("a comparison needs two runs or more: tools/report.py RUN RUN ...")
    groups, refusals = group_comparable(list(map(read_finished, folders)))
    tables = []
    for group in groups:
        tables.append(Table())
        for run in group:
            _add_run(tables[-1], run)
    return Comparison(tables, refusals)


def group_comparable(runs: Sequence[RunRecord]) -> tuple[list[list[RunRecord]], list[str]]:
    """Group runs that may share a table.

    Returns:
        groups: in the order of their first runs.
        refusals: one sentence per pair of groups: two runs, the keys that differ, and both values.
    """
    groups: list[list[RunRecord]] = []
    refusals: list[str] = []
    for run in runs:
        reasons = [_first_mismatch(group, run) for group in groups]
        if None in reasons:
            groups[reasons.index(None)].append(run)
        else:
            refusals += [reason for reason in reasons if reason]
            groups.append([run])
    return groups, refusals


def mismatches(first: RunRecord, second: RunRecord) -> list[str]:
    """Reasons why two runs may not share a table, as `key: value and value`; empty if they may."""
    facts = [dict(_comparison_facts(run)) for run in (first, second)]
    for partner, own in zip((second, first), facts, strict=True):  # compare counts of common categories only
        for key in list(own):
            if key.startswith("counts.") and key.split(".")[1] not in categories_of(partner):
                del own[key]
    for own, others in zip(facts, facts[::-1], strict=True):  # runs of earlier versions, or untagged ones, lack these
        for key in list(own):
            is_optional = key.startswith(("test_images.", "test_data.")) or key.endswith(".train_defect")
            if is_optional and key not in others:
                del own[key]
    keys = dict.fromkeys([*facts[0], *facts[1]])
    return [
        f"{key}: {_format_value(facts[0].get(key))} and {_format_value(facts[1].get(key))}"
        for key in keys
        if facts[0].get(key) != facts[1].get(key)
    ]


# ------------------------------------------------------------------------------------------------ comparability


def read_finished(folder: str | Path) -> RunRecord:
    """Read a run that has results and their provenance.

    Raises:
        AnoframeError: The folder is not a run folder, or has no results.
    """
    run = read_run(folder)
    if not run.evaluated or not run.provenance:
        raise AnoframeError(f"{folder} has no metrics.json with results: let the run finish, or leave it out")
    return run


def _first_mismatch(group: Sequence[RunRecord], run: RunRecord) -> str | None:
    for member in group:
        reasons = mismatches(member, run)
        if reasons:
            return f"{member.folder} and {run.folder} do not share a table, they differ in {'; '.join(reasons)}"
    return None


def _comparison_facts(run: RunRecord) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values that must be equal for two runs to share a table."""
    provenance = run.provenance
    yield "protocol", provenance.get("protocol")
    yield "protocol tag", provenance.get("protocol_tag", _UNTAGGED)
    for key, value in fill_later_keys(
        {f"data.{key}": value for key, value in provenance.get("data", {}).items()}
    ).items():
        yield "dataset" if key == "data.name" else key, value
    if run.stream:
        yield "tasks", "; ".join(", ".join(task) for task in run.stream.tasks)
    for category, counts in provenance.get("counts", {}).items():
        for key, value in counts.items():
            # a dot in the name of a category would look like a separator
            yield f"counts.{category.replace('.', '_')}.{key}", value
    for name, data in (provenance.get("data_fingerprint") or {}).items():
        if isinstance(data, Mapping) and "test" in data:
            yield f"test_data.{name}", str(data["test"])[:12]
    for category in run.categories:
        if category.images is not None:
            names = "\n".join(image.name for image in category.images)
            yield f"test_images.{category.name}", digest(names.encode())[:12]


def _format_value(value: Any) -> str:
    return "unknown" if value is None else repr(value) if isinstance(value, str) else str(value)


def _add_run(table: Table, run: RunRecord) -> None:
    """Add a run to the column that differs only in the seed, or as a new column."""
    for column in table.columns:
        if identity(column.runs[0]) == identity(run) and seed_of(run) not in column.seeds:
            column.runs.append(run)
            return
    table.columns.append(Column([run]))


def identity(run: RunRecord) -> tuple[Any, ...]:
    """Everything that is equal for runs that differ only in seed and categories."""
    provenance = run.provenance
    versions = sorted(provenance.get("versions", {}).items())
    weights = provenance.get("backbone", {}).get("sha256")
    return run.name, _settings(run), weights, provenance.get("git"), versions, provenance.get("selected")


def _settings(run: RunRecord) -> dict[str, Any]:
    return result_keys(run.config, ignored=_IGNORED_KEYS)


def seed_of(run: RunRecord) -> Any:
    return run.provenance.get("seed", run.config.get("seed"))


def categories_of(run: RunRecord) -> dict[str, Category]:
    return {category.name: category for category in run.categories}


def metrics_of(run: RunRecord, category: str) -> Metrics:
    """Metrics of a category; empty if the run does not have it."""
    record = categories_of(run).get(category)
    return record.metrics if record else {}


def shared_facts(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Return what the runs of one table share: protocol and data, and the counts of all their categories.

    `protocol_tag`, and `held_out` of all categories, are there only if the runs have them.
    """
    provenance = runs[0].provenance
    counts = {name: value for run in runs for name, value in run.provenance.get("counts", {}).items()}
    held_out = {name: value for run in runs for name, value in run.provenance.get("held_out", {}).items()}
    facts = {"protocol": provenance.get("protocol"), "data": provenance.get("data", {}), "counts": counts}
    tag = {"protocol_tag": provenance["protocol_tag"]} if "protocol_tag" in provenance else {}
    return {**facts, **tag, **({"held_out": held_out} if held_out else {})}


def describe_data(facts: Mapping[str, Any]) -> list[str]:
    """Dataset, protocol, image size, split, tag and held-out images of a provenance, as words for a heading."""
    data = facts.get("data", {})
    size = size_text(data["crop"]) if "crop" in data else "None x None"
    tiles = f" in tiles of {size_text(data['tile'])}" if "tile" in data else ""
    words = [str(data.get("name")), f"{facts.get('protocol')} protocol", f"{size} pixels{tiles}"]
    return words + describe_split(data) + describe_protocol(facts)


def describe_split(data: Mapping[str, Any]) -> list[str]:
    """The split of a provenance, as words for a heading; empty for the official one."""
    if "split" not in data:
        return []
    drawn = f"{data['shots']} shots" if "shots" in data else f"seed {data.get('split_seed')}"
    return [f"split {data['split']}, {drawn}"]


def describe_backbone(run: RunRecord) -> list[str]:
    """One line with name and weights of the backbone; empty if the run has none."""
    backbone = run.provenance.get("backbone") or {}
    return [f"{backbone.get('name')}, weights {str(backbone.get('sha256'))[:12]}"] if backbone else []


def describe_differences(table: Table, run: RunRecord) -> list[str]:
    """Values of a run for the config keys, commit and versions that differ between the columns of its table."""
    firsts = [column.runs[0] for column in table.columns]
    settings = [_settings(first) for first in firsts]
    keys = dict.fromkeys(key for a, b in combinations(settings, 2) for key in _unequal_keys(a, b))
    own = _settings(run)
    ordered = sorted(keys, key=lambda key: key != "protocol.strategy")  # first, so that the limit never cuts it off
    lines = [f"{key} {own.get(key, 'not set')}" for key in ordered]
    if len(lines) > _MAX_DIFFERENCES:
        lines = [*lines[:_MAX_DIFFERENCES], f"and {len(lines) - _MAX_DIFFERENCES} more"]
    for name in ("git", "versions"):
        values = [first.provenance.get(name) for first in firsts]
        if any(value != values[0] for value in values):
            lines.append(f"{name} {_short(run.provenance.get(name))}")
    return lines


def _unequal_keys(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    return [key for key in dict.fromkeys([*first, *second]) if first.get(key) != second.get(key)]


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return "unknown" if value is None else str(value)[:12]
