"""Configs: Python files that start from a parent and change what differs.

A config file binds the name `cfg`::

    from anoframe.config import inherit

    cfg = inherit("patchcore_noising_256_100e.py")
    cfg.model.lambda_influence = 0.0

A config file is code and is run; load only files you would run. `config.yaml` of a run folder is data.
"""

from __future__ import annotations

import ast
import copy
import difflib
import re
import traceback
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from anoframe.config.discovery import configs_root, find_config, list_configs
from anoframe.errors import AnoframeError, suggest
from anoframe.utils.files import write_atomic
from anoframe.utils.type_check import WORDS, matches_type, type_words

__all__ = ["ConfigDict", "diff_config", "inherit", "list_configs", "load_config", "placeholder", "save_config"]


@dataclass
class _File:
    """A config file while it runs, and what it gave."""

    path: Path
    parent: _File | None = None
    cfg: ConfigDict = field(default_factory=ConfigDict)


_running: ContextVar[tuple[_File, ...]] = ContextVar("running config files", default=())


# ---------------------------------------------------------------------------------------------------- loading


def load_config(source: str | Path, overrides: Mapping[str, Any] | None = None) -> ConfigDict:
    """Load a config and lock it.

    Args:
        source: a Python config (a path, or the name of a shipped one), a run's `config.yaml`, or a run folder.
        overrides: dotted name -> value; text is read as the type of the value it replaces. `protocol.tasks` and
            `protocol.strategy` ask for `protocol.name` continual, unless another one is among them.

    Raises:
        AnoframeError: not found, not readable as a config, an unknown key, a value of another type.
    """
    path = find_config(source)
    cfg = _read_yaml(path) if path.suffix in {".yaml", ".yml"} else _run(path).cfg
    if path.suffix == ".py" and "config_name" in cfg:
        cfg.config_name = path.stem
    changes = dict(overrides or {})
    if changes.keys() & {"protocol.tasks", "protocol.strategy"}:  # what no other protocol reads
        changes.setdefault("protocol.name", "continual")
    for name, value in changes.items():
        override(cfg, name, value)
    return cfg


def inherit(parent: str) -> ConfigDict:
    """Inside a config file: a copy of another config to change. Found beside this file, or among the shipped ones.

    Derived values (`get_ref`) stay derived. The result is locked, so a misspelt key is an error; to add keys of your
    own, use `with cfg.unlocked():`.
    """
    running = _running.get()
    if not running:
        raise AnoframeError("inherit() works inside a config file; from Python use load_config()")
    current = running[-1]
    beside = current.path.parent / parent
    path = beside.resolve() if beside.is_file() else find_config(parent)
    if any(file.path == path for file in running):
        raise AnoframeError(f"{current.path}: inherits from itself through {path}; name another parent")
    current.parent = _run(path)
    return copy.deepcopy(current.parent.cfg)


def _run(path: Path) -> _File:
    """Run a config file and take its `cfg`; what goes wrong in it is told with file and line."""
    file = _File(path)
    namespace: dict[str, Any] = {"__file__": str(path), "__name__": f"config:{path.stem}"}
    token = _running.set((*_running.get(), file))
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), namespace)
    except AnoframeError:
        raise
    except SyntaxError as error:
        raise AnoframeError(f"{error.filename or path}:{error.lineno or '?'}: {error.msg}; mend that line") from error
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        raise AnoframeError(f"{path}:{lines[-1] if lines else '?'}: {_plain(error)}") from error
    finally:
        _running.reset(token)
    cfg = namespace.get("cfg")
    if not isinstance(cfg, ConfigDict):
        raise AnoframeError(f"{path}: a config file binds 'cfg' to a ConfigDict, here it is {type(cfg).__name__}")
    file.cfg = cfg.lock()
    return file


def _plain(error: Exception) -> str:
    """What ml_collections says of an unknown key holds memory addresses and no suggestion; say it better."""
    while error.args and isinstance(error.args[0], Exception):  # attribute access wraps the KeyError, text and all
        error = error.args[0]
    text = str(error.args[0]) if error.args else str(error)
    unknown = re.search(r'Key "(\w+)" does not exist.*?Other fields present: (.*)', text, re.DOTALL)
    if unknown:
        fields = re.findall(r"'(\w+)':", unknown[2])
        return f"unknown config key {unknown[1]!r}: {suggest(unknown[1], fields)}"
    return f"{type(error).__name__}: {text}"


def _read_yaml(path: Path) -> ConfigDict:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise AnoframeError(f"{path}{line}: not YAML: {error.problem or error.context}; mend that line") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no text, or a date that is none
        raise AnoframeError(f"{path}: not a config.yaml: {error}") from error
    except OSError as error:
        raise AnoframeError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
    if not isinstance(tree, dict):
        raise AnoframeError(f"{path}: not a config.yaml: it holds {type(tree).__name__}, expected keys and values")
    if "config_name" in tree:  # of a run, perhaps of an earlier version: what that did not know has its default
        defaults = _defaults()
        _refuse_misspelt(tree, defaults, str(path))
        _complete(tree, plain(defaults))
        _check_keys(tree, defaults, str(path))
    try:
        return ConfigDict(_tuples(tree)).lock()
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise AnoframeError(f"{path}: not a config.yaml, its keys are not all names: {error}") from error


def check_config(cfg: ConfigDict) -> None:
    """Raise AnoframeError for a key of every config that this one lacks, or has with a value of another type."""
    where = f"config {cfg.get('config_name') or 'without a name'}"
    _check_keys(cfg, _defaults(), where)
    if not isinstance(cfg.get("model"), ConfigDict):
        raise AnoframeError(f"{where} has no model section: inherit from a method's config")


def _defaults() -> ConfigDict:
    return _run(configs_root() / "__base__" / "default.py").cfg


def _refuse_misspelt(tree: dict[str, Any], defaults: ConfigDict, where: str, prefix: str = "") -> None:
    """A key that is nearly that of a default, which is not there: the default would quietly take its place."""
    absent = [key for key in defaults if key not in tree]
    for key, value in tree.items():
        if key not in defaults and (near := difflib.get_close_matches(str(key), absent, n=1)):
            raise AnoframeError(f"{where}: unknown config key {prefix + str(key)!r}: did you mean {near[0]!r}?")
        if isinstance(value, dict) and isinstance(defaults.get(key), ConfigDict):
            _refuse_misspelt(value, defaults[key], where, f"{prefix}{key}.")


def _complete(tree: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    """Add the keys that a tree lacks."""
    for key, value in defaults.items():
        if isinstance(tree.setdefault(key, value), dict) and isinstance(value, dict):
            _complete(tree[key], value)


def _check_keys(tree: Any, defaults: ConfigDict, where: str, prefix: str = "") -> None:
    for key in defaults:
        name = prefix + key
        if key not in tree:
            raise AnoframeError(f"{where} lacks the key {name}: inherit from a config that has it, or add it")
        value, kind = tree[key], defaults.get_type(key)
        if isinstance(defaults[key], ConfigDict):
            if not isinstance(value, dict | ConfigDict):
                raise AnoframeError(f"{where}: {name} is a section of keys, got {value!r}")
            _check_keys(value, defaults[key], where, f"{name}.")
        elif not matches_type(value, kind) and not (value is None and defaults[key] is None):
            raise AnoframeError(f"{where}: {name} takes {type_words(kind)}, got {value!r}")


# ---------------------------------------------------------------------------------------------------- overriding


def override(cfg: ConfigDict, name: str, value: Any) -> None:
    """Set one value by its dotted name, with its type checked."""
    *sections, key = name.split(".")
    node: Any = cfg
    for section in sections:
        node = node[section] if isinstance(node, ConfigDict) and section in node else None
    if not isinstance(node, ConfigDict) or key not in node:
        raise AnoframeError(f"unknown config key {name!r}: {suggest(name, dict(flatten(cfg)))}")
    if isinstance(node[key], ConfigDict):
        keys = [known for known, _ in flatten(cfg) if known.startswith(f"{name}.")]
        raise AnoframeError(f"{name!r} is a section, set one of its keys: {', '.join(keys)}")
    kind = node.get_type(key)
    try:
        node[key] = _as_type(value, kind, optional=node[key] is None)
    except (ValueError, SyntaxError, TypeError) as error:
        raise AnoframeError(f"{name} takes {WORDS.get(kind, kind.__name__)}, got {value!r}") from error


_BOOLS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}


def _as_type(value: Any, kind: type, optional: bool) -> Any:
    """Read text as `kind`; take other values only where they already are of that kind (an int for a float is).

    A value of kind None was a placeholder before it went through YAML, and those stand for text.
    """
    if kind is tuple:
        return _as_tuple(value)
    if isinstance(value, str) and kind is not str:
        if kind is type(None):
            return None if value == "None" else value
        value = _BOOLS[value.lower()] if kind is bool and value.lower() in _BOOLS else ast.literal_eval(value)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind and kind is not type(None) and not (optional and value is None):
        raise TypeError(f"{value!r} is not {kind.__name__}")
    return value


def _as_tuple(value: Any) -> tuple[Any, ...]:
    if isinstance(value, str):
        text = value.strip().removeprefix("(").removeprefix("[").removesuffix(")").removesuffix("]")
        value = [part.strip() for part in text.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{value!r} is not a list")
    return tuple(_literal(part) for part in value)


def _literal(value: Any) -> Any:
    """A number, True, None or quoted text where the text reads as one; else the text itself."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


# ---------------------------------------------------------------------------------------------------- showing


def flatten(cfg: Mapping[str, Any] | ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its dotted name, in alphabetical order."""
    for key in cfg:
        value = cfg[key]
        if isinstance(value, (ConfigDict, Mapping)):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def plain(cfg: ConfigDict) -> dict[str, Any]:
    """The config as plain dicts and lists, references resolved."""
    tree = {}
    for key in cfg:
        value = cfg[key]
        tree[key] = plain(value) if isinstance(value, ConfigDict) else list(value) if type(value) is tuple else value
    return tree


def _tuples(tree: dict[str, Any]) -> dict[str, Any]:
    """The inverse of what plain() does to tuples."""
    as_tuple = {key: tuple(value) if isinstance(value, list) else value for key, value in tree.items()}
    return {key: _tuples(value) if isinstance(value, dict) else value for key, value in as_tuple.items()}


def format_config(cfg: ConfigDict) -> str:
    """YAML text that `--config` takes back."""
    return yaml.safe_dump(plain(cfg), sort_keys=False, allow_unicode=True)


def save_config(cfg: ConfigDict, path: Path) -> None:
    write_atomic(path, format_config(cfg))


def diff_config(source: str | Path, overrides: Mapping[str, Any] | None = None) -> str:
    """What a config changes against its parent, its parent against its own, and the command line against it."""
    path = find_config(source)
    file = _run(path) if path.suffix == ".py" else _File(path, cfg=_read_yaml(path))
    blocks = []
    if overrides:
        changed = load_config(source, overrides)
        if "config_name" in file.cfg:
            changed.config_name = file.cfg.config_name
        blocks.append(_changes(f"command line changes {path.name}", file.cfg, changed))
    while file.parent is not None:
        blocks.append(_changes(f"{file.path.name} changes {file.parent.path.name}", file.parent.cfg, file.cfg))
        file = file.parent
    return "\n".join(reversed(blocks)) or f"{path.name} has no parent"


def _changes(title: str, before: ConfigDict, after: ConfigDict) -> str:
    old, new = dict(flatten(before)), dict(flatten(after))
    lines = [f"  {key}: {old[key]!r} -> {new[key]!r}" for key in new if key in old and old[key] != new[key]]
    lines += [f"  {key}: (new) {new[key]!r}" for key in new if key not in old]
    lines += [f"  {key}: (removed)" for key in old if key not in new]
    return "\n".join([f"{title}:", *(lines or ["  nothing"])])
