"""Section on provenance: data, weights, versions, times, and config changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from anoframe.config import diff_config, flatten, list_configs, load_config
from anoframe.evaluation.disclosure import sum_held_out
from anoframe.report.category_record import Category
from anoframe.report.charts import number
from anoframe.report.run_record import RunRecord, StageTotal

_NOT_COMPARED = ("config_name", "categories")  # they differ in every run, and the report shows them elsewhere


@dataclass(frozen=True)
class TextTable:
    """A table of plain text; the first cell of each row is its head."""

    title: str
    head: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Change:
    """A config key with its values. `before` is empty for a new key."""

    key: str
    before: str
    after: str


@dataclass(frozen=True)
class ChangeTable:
    """What a config changes in its parent."""

    title: str
    changes: list[Change]


@dataclass(frozen=True)
class Provenance:
    """Values of `provenance.html`.

    Attributes:
        blocks: title -> (name, value) of its facts; without empty blocks.
        tables: number of images, and time and memory per stage.
        changes: from this run back to the oldest config; None if the config does not ship with anoframe.
        base: the whole method section of the oldest config, if any.
        config_text: `config.yaml`.
    """

    blocks: dict[str, list[tuple[str, str]]]
    tables: list[TextTable]
    changes: list[ChangeTable] | None
    base: ChangeTable | None
    config_text: str


def provenance_view(run: RunRecord) -> Provenance:
    """Prepare the last section of the report."""
    provenance, record = run.provenance, run.run
    status = {name: record.get(name) for name in ("id", "status", "device")}
    seed = provenance.get("seed", run.config.get("seed"))
    blocks = {
        "Data": _facts({**provenance.get("data", {}), "protocol": provenance.get("protocol")}),
        "Comparability": _facts(_comparability(provenance)),
        "Backbone": _facts(provenance.get("backbone", {})),
        "Run": _facts({"seed": seed, **status, **record.get("machine", {})}),
        "Training": _facts(_trainer_settings(provenance)),
        "Versions": _facts({**provenance.get("versions", {}), "git": provenance.get("git")}),
    }
    tables = [*_count_table(run.categories), *_stage_table(run.stages)]
    changes, base = _changes(run)
    return Provenance({name: facts for name, facts in blocks.items() if facts}, tables, changes, base, run.config_text)


def _comparability(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells how the results may be compared; empty for a usual run on the official split."""
    counts = provenance.get("held_out")
    total = sum_held_out(counts.values()) if counts else None
    return {
        "protocol tag": provenance.get("protocol_tag"),
        "held out": f"{total['good']} good + {total['defect']} defect images" if total else None,
        "split hash": provenance.get("split_hash"),
        "trained on": provenance.get("transfer_from"),
        "notes": "; ".join(provenance.get("notes", [])) or None,
    }


def _trainer_settings(provenance: Mapping[str, Any]) -> dict[str, Any]:
    selected = provenance.get("selected")
    settings = {} if not selected else {"the epoch was chosen as": selected}
    for name, value in flatten(provenance.get("trainer", {})):
        settings[name] = number(value) if isinstance(value, float) else value
    return settings


def _facts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(str(name), _text(value)) for name, value in values.items() if value is not None and value != []]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


# ------------------------------------------------------------------------------------------------ tables


def _count_table(categories: Iterable[Category]) -> list[TextTable]:
    """Number of images per category and split; no table if they are not known."""
    counted = [category for category in categories if category.counts]
    splits = list(dict.fromkeys(name for category in counted for name in category.counts))
    if not splits:
        return []
    head = ["category", *(name.replace("_", " ") for name in splits)]
    rows = [[category.name, *(str(category.counts.get(name, "")) for name in splits)] for category in counted]
    return [TextTable("Images", head, rows)]


def _stage_table(stages: Iterable[StageTotal]) -> list[TextTable]:
    """Time and memory per stage; no table if they are not known."""
    stages = list(stages)
    if not stages:
        return []
    gpu = any(stage.gpu_peak_bytes for stage in stages)
    head = ["stage", "seconds", "peak memory so far, GB", *(["GPU peak, GB"] if gpu else [])]
    rows = [[s.name, f"{s.seconds:.1f}", *_gigabytes(s.peak_bytes, *[s.gpu_peak_bytes] * gpu)] for s in stages]
    rows.append(["all", f"{sum(stage.seconds for stage in stages):.1f}", *[""] * (len(head) - 2)])
    return [TextTable("Time and memory", head, rows)]


def _gigabytes(*sizes: int) -> list[str]:
    return [f"{size / 1e9:.2f}" for size in sizes]


# ------------------------------------------------------------------------------------------------ config


def _changes(run: RunRecord) -> tuple[list[ChangeTable] | None, ChangeTable | None]:
    """What this run changes in its config and each config in its parent; then the base of the oldest config."""
    shipped = [name for name in list_configs() if PurePosixPath(name).stem == run.name]
    if not shipped:
        return None, None
    own = ChangeTable(f"this run changes {PurePosixPath(shipped[0]).name}", _changes_of_run(run, shipped[0]))
    oldest, *chain = _read_diff(diff_config(shipped[0]))
    return [own, *reversed(chain)], oldest if oldest.changes else None


def _read_diff(text: str) -> list[ChangeTable]:
    """Read the output of `diff_config`: one title per config, and one indented line per changed key."""
    tables: list[ChangeTable] = []
    for line in text.splitlines():
        if not line.startswith(" "):
            tables.append(ChangeTable(line.removesuffix(":"), []))
        elif ": " in line:
            key, change = line.strip().split(": ", 1)
            before, arrow, after = change.partition(" -> ")
            tables[-1].changes.append(Change(key, before, after) if arrow else Change(key, "", change))
    return tables


def _changes_of_run(run: RunRecord, shipped: str) -> list[Change]:
    before, after = (dict(flatten(cfg)) for cfg in (load_config(shipped), load_config(run.folder / "config.yaml")))
    changed = [key for key in after if key in before and before[key] != after[key] and key not in _NOT_COMPARED]
    return [Change(key, repr(before[key]), repr(after[key])) for key in changed] + [
        Change(key, "", f"(new) {after[key]!r}") for key in after if key not in before
    ]
