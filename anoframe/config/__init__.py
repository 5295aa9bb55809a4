"""Configs: Python files that inherit from a parent and change what differs."""

from __future__ import annotations

from anoframe.config.discovery import list_configs
from anoframe.config.loading import (
    ConfigDict,
    check_config,
    diff_config,
    flatten,
    format_config,
    inherit,
    load_config,
    override,
    placeholder,
    plain,
    save_config,
)

__all__ = [
    "ConfigDict",
    "check_config",
    "diff_config",
    "flatten",
    "format_config",
    "inherit",
    "list_configs",
    "load_config",
    "override",
    "placeholder",
    "plain",
    "save_config",
]
