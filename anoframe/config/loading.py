"""Load configs: Python files, shipped configs, and the `config.yaml` of run folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ml_collections import ConfigDict

from anoframe.config.config_file import (
    class_stream_config,
    default_config,
    gradient_config,
    method_config,
    pretraining_config,
    probe_config,
    run_config_file,
)
from anoframe.config.discovery import find_config
from anoframe.config.display import to_plain
from anoframe.config.overrides import override
from anoframe.config.validation import check_keys, check_spelling, is_class_stream
from anoframe.config.yaml_text import parse_yaml, with_types
from anoframe.errors import AnoframeError


def load_config(source: str | Path, overrides: Mapping[str, Any] | None = None) -> ConfigDict:
    """Load a config and lock it.

    Args:
        source: a Python config (a path, or the name of a shipped config), the `config.yaml` of a run, or a run folder.
        overrides: dotted name -> value; text is converted to the type of the value that it replaces. `protocol.tasks`
            and `protocol.strategy` set `protocol.name` to "continual", unless it is overridden as well, or the config
            is a stream of classes of labelled images.

    Raises:
        AnoframeError: not found, not readable as a config, an unknown key, or a value of another type.
    """
    path = find_config(source)
    cfg = read_yaml(path) if path.suffix in {".yaml", ".yml"} else run_config_file(path).cfg
    if path.suffix == ".py" and "config_name" in cfg:
        cfg.config_name = path.stem
    changes = dict(overrides or {})
    is_task_key = bool(changes.keys() & {"protocol.tasks", "protocol.strategy"})
    if is_task_key and not is_class_stream(cfg):  # keys that only the continual protocol reads
        changes.setdefault("protocol.name", "continual")
    for name, value in changes.items():
        override(cfg, name, value)
    return cfg


def read_yaml(path: Path) -> ConfigDict:
    """Read a `config.yaml` and lock it; its values get the types of the method's base config.

    In the file of a run, missing keys get their default: the run may be of an earlier version that lacked them.
    """
    tree = _parse_yaml(path)
    other = _config_without_detector(tree)
    defaults = (other or default_config()) if "config_name" in tree else None  # the file of a run
    if defaults is not None:
        check_spelling(tree, defaults, str(path))
        _complete(tree, to_plain(defaults))
    model = tree.get("model")
    method = method_config(model.get("name") if isinstance(model, dict) else None)
    reference = other or method or gradient_config()
    try:
        cfg = ConfigDict(with_types(tree, reference)).lock()
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise AnoframeError(f"{path}: not a config.yaml, not all of its keys are names: {error}") from error
    if defaults is not None:
        check_keys(cfg, defaults, str(path))
    return cfg


def _config_without_detector(tree: Mapping[str, Any]) -> ConfigDict | None:
    """Return the base config of a pretraining, of the evaluation of an encoder, or of a stream of classes, or None."""
    if "learner" in tree:
        return pretraining_config()
    if is_class_stream(tree):
        return class_stream_config()
    return probe_config() if "probes" in tree else None


def _parse_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise AnoframeError(f"{path}{line}: not YAML: {error.problem or error.context}; correct that line") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: not text, or an impossible date
        raise AnoframeError(f"{path}: not a config.yaml: {error}") from error
    except OSError as error:
        raise AnoframeError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
    if not isinstance(tree, dict):
        raise AnoframeError(f"{path}: not a config.yaml: it holds {type(tree).__name__}, expected keys and values")
    return tree


def _complete(tree: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    """Add the keys of `defaults` that a tree lacks."""
    for key, value in defaults.items():
        if isinstance(tree.setdefault(key, value), dict) and isinstance(value, dict):
            _complete(tree[key], value)
