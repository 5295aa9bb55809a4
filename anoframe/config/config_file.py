"""Run Python config files.

A config file binds the name `cfg`::

    from anoframe.config import inherit

    cfg = inherit("patchcore_noising_256_100e.py")
    cfg.model.lambda_influence = 0.0

A config file is code and is executed: load only files that you would execute. The `config.yaml` of a run folder is
data.
"""

from __future__ import annotations

import copy
import re
import traceback
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from anoframe.config.discovery import base_config, configs_root, find_config
from anoframe.config.display import flatten
from anoframe.config.key_names import find_moved_key
from anoframe.errors import AnoframeError, suggest


@dataclass
class ConfigFile:
    """A Python config file and its result.

    Attributes:
        path: the file.
        parent: the file that it inherits from; None if it does not call `inherit`.
        cfg: its config, locked.
    """

    path: Path
    parent: ConfigFile | None = None
    cfg: ConfigDict = field(default_factory=ConfigDict)


_running: ContextVar[tuple[ConfigFile, ...]] = ContextVar("running config files", default=())


def inherit(parent: str) -> ConfigDict:
    """Return a copy of another config; for use inside a config file.

    Derived values (`get_ref`) stay derived. The copy is locked, so that a misspelt key is an error; to add keys, use
    `with cfg.unlocked():`.

    Args:
        parent: path relative to the calling config file, or the name of a shipped config.
    """
    running = _running.get()
    if not running:
        raise AnoframeError("inherit() works inside a config file; from Python use load_config()")
    current = running[-1]
    relative = current.path.parent / parent
    path = relative.resolve() if relative.is_file() else find_config(parent)
    if any(file.path == path for file in running):
        raise AnoframeError(f"{current.path}: inherits from itself through {path}; name another parent")
    current.parent = run_config_file(path)
    return copy.deepcopy(current.parent.cfg)


def run_config_file(path: Path) -> ConfigFile:
    """Execute a config file and take its `cfg`.

    Raises:
        AnoframeError: the file fails, with file and line; or it binds no `cfg`.
    """
    file = ConfigFile(path)
    namespace: dict[str, Any] = {"__file__": str(path), "__name__": f"config:{path.stem}"}
    token = _running.set((*_running.get(), file))
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), namespace)
    except AnoframeError:
        raise
    except SyntaxError as error:
        raise AnoframeError(
            f"{error.filename or path}:{error.lineno or '?'}: {error.msg}; correct that line"
        ) from error
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        reason = _describe_error(error, namespace.get("cfg"))
        raise AnoframeError(f"{path}:{lines[-1] if lines else '?'}: {reason}") from error
    finally:
        _running.reset(token)
    cfg = namespace.get("cfg")
    if not isinstance(cfg, ConfigDict):
        raise AnoframeError(f"{path}: a config file must bind 'cfg' to a ConfigDict, here it is {type(cfg).__name__}")
    file.cfg = cfg.lock()
    return file


def default_config() -> ConfigDict:
    """Return the keys that every config has, with their default values."""
    return run_config_file(configs_root() / "__base__" / "default.py").cfg


def gradient_config() -> ConfigDict:
    """Return the base config of methods with gradient training: the default keys and the section `trainer`."""
    return run_config_file(configs_root() / "__base__" / "gradient.py").cfg


def pretraining_config() -> ConfigDict:
    """Return the base config of pretraining, which has no keys of detectors, and of learners only an empty section."""
    return run_config_file(configs_root() / "__base__" / "pretraining.py").cfg


def probe_config() -> ConfigDict:
    """Return the base config of the evaluation of encoders."""
    return run_config_file(configs_root() / "__base__" / "probe.py").cfg


def survey_config() -> ConfigDict:
    """Return the base config of surveys of encoders."""
    return run_config_file(configs_root() / "__base__" / "survey.py").cfg


def class_stream_config() -> ConfigDict:
    """Return the base config of classes of labelled images that arrive task by task."""
    return run_config_file(configs_root() / "__base__" / "class_stream.py").cfg


def method_config(name: object) -> ConfigDict | None:
    """Return the base config `configs/__base__/<name>.py` of a method; None if there is none with a model section."""
    path = base_config(name) if isinstance(name, str) else None
    cfg = run_config_file(path).cfg if path else None
    return cfg if cfg is not None and "model" in cfg else None


def _describe_error(error: Exception, cfg: Any) -> str:
    """Describe an exception of a config file in one line.

    For an unknown key, the text of ml_collections holds memory addresses and no suggestion; both are replaced.
    """
    while error.args and isinstance(error.args[0], Exception):  # attribute access wraps the KeyError
        error = error.args[0]
    text = str(error.args[0]) if error.args else str(error)
    unknown = re.search(r'Key "(\w+)" does not exist.*?Other fields present: (.*)', text, re.DOTALL)
    if not unknown:
        return f"{type(error).__name__}: {text}"
    key, fields = unknown[1], re.findall(r"'(\w+)':", unknown[2])
    names = dict(flatten(cfg)) if isinstance(cfg, ConfigDict) else {}
    moved = find_moved_key(key, names)
    hint = f"did you mean {moved!r}?" if moved else suggest(key, fields)
    return f"unknown config key {key!r}: {hint}"
