"""Compare two configs: which keys can change a result, and what a config changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from anoframe.config.config_file import ConfigFile, run_config_file
from anoframe.config.discovery import find_config
from anoframe.config.display import flatten
from anoframe.config.loading import load_config, read_yaml

# Prefixes of config keys that cannot change a result: data location, display, logging, caching, and speed.
RESULT_NEUTRAL_KEYS = (
    "cache.",
    "wandb.",
    "tensorboard.",
    "report.",
    "data.root",
    "data.ignore",
    "data.also",
    "data.exclude",
    "data.workers",
    "trainer.save_minutes",
)


def result_keys(cfg: Mapping[str, Any] | ConfigDict, prefix: str = "", ignored: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the values that can change a result, by dotted name.

    Args:
        cfg: the config.
        prefix: only keys that start with it, for example `"trainer."`.
        ignored: prefixes of further keys to leave out.

    >>> result_keys({"seed": 0, "report": {"pictures": 12}})
    {'seed': 0}
    """
    neutral = (*RESULT_NEUTRAL_KEYS, *ignored)
    values = fill_later_keys(dict(flatten(cfg)))
    return {key: value for key, value in values.items() if key.startswith(prefix) and not key.startswith(neutral)}


def fill_later_keys(values: dict[str, Any]) -> dict[str, Any]:
    """Add the keys that a config or provenance of an earlier version lacks, with the value that it had in effect.

    Args:
        values: by dotted name; it is changed and returned.
    """
    if "trainer.select" in values:
        values.setdefault("trainer.select_metric", "summary")
    if "protocol.strategy" in values:
        for key, value in (("total", None), ("per_class", 20), ("selector", "random"), ("direction", "default")):
            values.setdefault(f"protocol.memory.{key}", value)
    if "data.resize" in values:
        values.setdefault("data.interpolation", "bilinear")
        values.setdefault("data.split", "official")
        values.setdefault("data.shots", 0)
        values.setdefault("data.tile", None)
        values.setdefault("data.tile_overlap", 0)
    if "model.backbone.levels" in values:
        values.setdefault("model.backbone.engine", "torch")
    return values


def diff_config(source: str | Path, overrides: Mapping[str, Any] | None = None) -> str:
    """Describe what a config changes: one block of lines per file, from the oldest ancestor to the config itself.

    Changes by `overrides` are the last block.
    """
    path = find_config(source)
    file = run_config_file(path) if path.suffix == ".py" else ConfigFile(path, cfg=read_yaml(path))
    blocks = []
    if overrides:
        changed = load_config(source, overrides)
        if "config_name" in file.cfg:
            changed.config_name = file.cfg.config_name
        blocks.append(_describe_changes(f"command line changes {path.name}", file.cfg, changed))
    while file.parent is not None:
        title = f"{file.path.name} changes {file.parent.path.name}"
        blocks.append(_describe_changes(title, file.parent.cfg, file.cfg))
        file = file.parent
    return "\n".join(reversed(blocks)) or f"{path.name} has no parent"


def _describe_changes(title: str, before: ConfigDict, after: ConfigDict) -> str:
    old, new = dict(flatten(before)), dict(flatten(after))
    lines = [f"  {key}: {old[key]!r} -> {new[key]!r}" for key in new if key in old and old[key] != new[key]]
    lines += [f"  {key}: (new) {new[key]!r}" for key in new if key not in old]
    lines += [f"  {key}: (removed)" for key in old if key not in new]
    return "\n".join([f"{title}:", *(lines or ["  nothing"])])
