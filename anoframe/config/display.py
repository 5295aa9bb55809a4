"""Config trees as dotted names, plain dicts and YAML text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from anoframe.config.yaml_text import dump_yaml
from anoframe.utils.files import write_atomic


def flatten(cfg: Mapping[str, Any] | ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) for every value of a config, in the order of the config.

    >>> list(flatten({"data": {"crop": 64}, "seed": 0}))
    [('data.crop', 64), ('seed', 0)]
    """
    for key in cfg:
        value = cfg[key]
        if isinstance(value, (ConfigDict, Mapping)):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def to_plain(cfg: ConfigDict) -> dict[str, Any]:
    """Convert a config to plain dicts and lists, with references resolved and tuples as lists."""
    tree: dict[str, Any] = {}
    for key in cfg:
        value = cfg[key]
        if isinstance(value, ConfigDict):
            tree[key] = to_plain(value)
        else:
            tree[key] = list(value) if type(value) is tuple else value
    return tree


def format_config(cfg: ConfigDict) -> str:
    """Format a config as YAML text that `load_config` reads back."""
    return dump_yaml(to_plain(cfg))


def save_config(cfg: ConfigDict, path: Path) -> None:
    """Write a config as YAML; raises OutputError if the file cannot be written."""
    write_atomic(path, format_config(cfg))
