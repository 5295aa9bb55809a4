"""Configs: Python files that inherit from a parent config and change single values.

Loads no torch.
"""

from __future__ import annotations

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from anoframe.config.comparison import diff_config, result_keys
from anoframe.config.config_file import inherit
from anoframe.config.discovery import list_configs
from anoframe.config.display import flatten, format_config, save_config, to_plain
from anoframe.config.loading import load_config
from anoframe.config.overrides import override
from anoframe.config.validation import check_config
from anoframe.config.yaml_text import one_of

__all__ = [
    "ConfigDict",
    "check_config",
    "diff_config",
    "flatten",
    "format_config",
    "inherit",
    "list_configs",
    "load_config",
    "one_of",
    "override",
    "placeholder",
    "result_keys",
    "save_config",
    "to_plain",
]
