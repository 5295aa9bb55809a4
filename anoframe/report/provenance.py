"""How a run was made: what its config changes, data, weights, versions, times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import PurePosixPath
from typing import Any

from anoframe.config import diff_config, flatten, list_configs, load_config
from anoframe.report.charts import number
from anoframe.report.run_record import Category, RunRecord

_OF_THE_RUN = ("config_name", "categories")  # said elsewhere, and differ in every run


def how_it_was_made(run: RunRecord) -> str:
    """The last section of the page."""
    made = run.provenance
    blocks = [
        _block("Data", _data(run)),
        _block("Backbone", _list(made.get("backbone", {}))),
        _block("Run", _list({"seed": made.get("seed", run.config.get("seed")), **_execution(run)})),
        _block("Training", _trainer(made)),
        _block("Versions", _list({**made.get("versions", {}), "git": made.get("git")})),
    ]
    return (
        f'<section id="made"><h2>How it was made</h2><div class="facts-grid">{"".join(blocks)}</div>'
        f'<div class="side-by-side">{_counts(run.categories)}{_stages(run)}</div>{_changes(run)}'
        f"<details><summary>Full config</summary><pre>{escape(run.config_text)}</pre></details></section>"
    )


def _data(run: RunRecord) -> str:
    made = run.provenance
    return _list({**made.get("data", {}), "protocol": made.get("protocol")})


def _trainer(made: Mapping[str, Any]) -> str:
    selected = made.get("selected")
    chosen = {"the epoch was chosen as": selected} if selected else {}
    settings = {
        name: number(value) if isinstance(value, float) else value for name, value in flatten(made.get("trainer", {}))
    }
    return _list({**chosen, **settings})


def _execution(run: RunRecord) -> dict[str, Any]:
    machine = run.run.get("machine", {})
    return {"id": run.run.get("id"), "status": run.run.get("status"), "device": run.run.get("device"), **machine}


def _block(title: str, content: str) -> str:
    return f"<div><h3>{title}</h3>{content}</div>" if content else ""


def _list(facts: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<dt>{escape(str(name))}</dt><dd>{escape(_plain(value))}</dd>"
        for name, value in facts.items()
        if value is not None and value != []
    )
    return f'<dl class="facts">{rows}</dl>' if rows else ""


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _counts(categories: Iterable[Category]) -> str:
    known = [category for category in categories if category.counts]
    columns = list(dict.fromkeys(name for category in known for name in category.counts))
    if not columns:
        return ""
    names = [name.replace("_", " ") for name in columns]
    rows = [[category.name, *(category.counts.get(name, "") for name in columns)] for category in known]
    return _block("Images", _table(["category", *names], rows))


def _stages(run: RunRecord) -> str:
    if not run.stages:
        return ""
    gpu = any(stage.gpu_peak_bytes for stage in run.stages)
    head = ["stage", "seconds", "peak memory so far, GB", *(["GPU peak, GB"] if gpu else [])]
    rows = [
        [s.name, f"{s.seconds:.1f}", f"{s.peak_bytes / 1e9:.2f}", *([f"{s.gpu_peak_bytes / 1e9:.2f}"] if gpu else [])]
        for s in run.stages
    ]
    rows.append(["all", f"{sum(stage.seconds for stage in run.stages):.1f}", *[""] * (len(head) - 2)])
    return _block("Time and memory", _table(head, rows))


def _table(head: list[str], rows: list[list[Any]]) -> str:
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = "".join(
        f'<tr><th scope="row">{escape(str(first))}</th>{"".join(f"<td>{escape(str(cell))}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return f'<div class="scroll"><table class="plain"><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'


# ------------------------------------------------------------------------------------------------ the config


def _changes(run: RunRecord) -> str:
    """What each config of the chain changes against its parent, and this run against its config."""
    shipped = [name for name in list_configs() if PurePosixPath(name).stem == run.name]
    if not shipped:
        return (
            '<h3>What the config changes</h3><p class="note">The config of this run is not one that ships with '
            "anoframe, so its parents are not known here; the full config follows.</p>"
        )
    nearest = (f"this run changes {PurePosixPath(shipped[0]).name}", _against(run, shipped[0]))
    eldest, *chain = _blocks(diff_config(shipped[0]))
    tables = "".join(_change_table(*block) for block in [nearest, *reversed(chain)])
    if eldest[1]:  # it lists a method's whole model section
        title, rows = eldest
        tables += f"<details><summary>{escape(title)}</summary>{_change_table('', rows)}</details>"
    return f'<h3>What the config changes</h3><div class="changes">{tables}</div>'


def _blocks(text: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """`diff_config` prints a title a config, and an indented line a changed key."""
    blocks: list[tuple[str, list[tuple[str, str]]]] = []
    for line in text.splitlines():
        if not line.startswith(" "):
            blocks.append((line.removesuffix(":"), []))
        elif ": " in line:
            key, change = line.strip().split(": ", 1)
            blocks[-1][1].append((key, change))
    return blocks


def _against(run: RunRecord, shipped: str) -> list[tuple[str, str]]:
    before, after = (dict(flatten(cfg)) for cfg in (load_config(shipped), load_config(run.folder / "config.yaml")))
    changed = [key for key in after if key in before and before[key] != after[key] and key not in _OF_THE_RUN]
    return [(key, f"{before[key]!r} -> {after[key]!r}") for key in changed] + [
        (key, f"(new) {after[key]!r}") for key in after if key not in before
    ]


def _change_table(title: str, rows: list[tuple[str, str]]) -> str:
    lines = "".join(f'<tr><th scope="row">{escape(key)}</th><td>{_arrow(change)}</td></tr>' for key, change in rows)
    caption = f"<caption>{escape(title)}</caption>" if title else ""
    body = lines or '<tr><td colspan="2">nothing</td></tr>'
    return f'<table class="plain">{caption}<tbody>{body}</tbody></table>'


def _arrow(change: str) -> str:
    before, arrow, after = change.partition(" -> ")
    return f"<del>{escape(before)}</del> <ins>{escape(after)}</ins>" if arrow else escape(change)
