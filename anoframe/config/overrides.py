"""Change config values by dotted name: parse command-line options, convert their types, set the values."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ml_collections import ConfigDict

from anoframe.config.display import flatten
from anoframe.config.key_names import TEXT_LISTS, nearest_key
from anoframe.errors import AnoframeError, suggest
from anoframe.utils.type_check import Alternatives, type_words

_BOOLS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}


def dotted_options(words: Sequence[str], parser: argparse.ArgumentParser) -> dict[str, object]:
    """Parse `--a.b value`, `--a.b v1 v2` and `--a.b=value`.

    Args:
        words: the words that `parser` did not recognise.
        parser: source of suggestions for a misspelt option.

    Returns:
        dict: dotted name -> value, or list of values.
    """
    overrides: dict[str, list[str]] = {}
    name = ""
    for word in words:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            if "." not in name:
                options = [option[2:] for option in parser._option_string_actions if option.startswith("--")]
                raise AnoframeError(
                    f"unknown option --{name}: {suggest(name, options, prefix='--')}; set a config value by its "
                    "dotted name, for example --data.root"
                )
            overrides[name] = [value] if equals else []
        elif name:
            overrides[name].append(word)
        else:
            raise AnoframeError(f"unexpected argument {word!r}: options start with --, see --help")
    for name, values in overrides.items():
        if not values:
            raise AnoframeError(f"--{name} needs a value")
    return {name: values[0] if len(values) == 1 else values for name, values in overrides.items()}


def override(cfg: ConfigDict, name: str, value: Any) -> None:
    """Set one value by its dotted name, converted to the type of the value that it replaces.

    Raises:
        AnoframeError: an unknown key, a section instead of a key, or a value of another type.
    """
    *sections, key = name.split(".")
    node: Any = cfg
    for section in sections:
        node = node[section] if isinstance(node, ConfigDict) and section in node else None
    if not isinstance(node, ConfigDict) or key not in node:
        keys = list(dict(flatten(cfg)))
        raise AnoframeError(f"unknown config key {name!r}: {suggest(nearest_key(name, keys) or name, keys)}")
    if isinstance(node[key], ConfigDict):
        keys = [key for key in dict(flatten(cfg)) if key.startswith(f"{name}.")]
        raise AnoframeError(f"{name!r} is a section, set one of its keys: {', '.join(keys)}")
    kind = node.get_type(key)
    try:
        if name in TEXT_LISTS:
            node[key] = tuple(_parse_text(item) for item in _split(value))
        else:
            node[key] = _convert(value, kind, optional=node[key] is None)
    except (ValueError, SyntaxError, TypeError) as error:
        raise AnoframeError(f"{name} takes {type_words(kind)}, got {value!r}") from error


def _convert(value: Any, kind: type, optional: bool) -> Any:
    """Convert text to `kind`; accept another value only if it has that type already (an int for a float does).

    A `kind` of NoneType is a placeholder of another package's method, saved as YAML, which keeps no type: it accepts
    text.
    """
    if optional and value in (None, "None"):
        return None
    if isinstance(kind, Alternatives):
        return _convert_to_any(value, kind.kinds)
    if kind is tuple:
        return tuple(_parse_item(item) for item in _split(value))
    if isinstance(value, str) and kind is not str:
        if kind is type(None):
            return value
        value = _BOOLS[value.lower()] if kind is bool and value.lower() in _BOOLS else ast.literal_eval(value)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind and kind is not type(None):
        raise TypeError(f"{value!r} is not {kind.__name__}")
    return value


def _convert_to_any(value: Any, kinds: Sequence[type | str]) -> Any:
    """Convert to the first of several types, or words, that fits; text without a comma is no list."""
    for kind in kinds:
        if isinstance(kind, str):
            if value == kind:
                return value
            continue
        if kind is tuple and isinstance(value, str) and "," not in value:
            continue
        with suppress(ValueError, SyntaxError, TypeError):
            return _convert(value, kind, optional=False)
    raise TypeError(f"{value!r} is none of {kinds}")


def _split(value: Any) -> tuple[Any, ...]:
    """Split text at its commas; return another list as it is."""
    if isinstance(value, str):
        text = value.strip().removeprefix("(").removeprefix("[").removesuffix(")").removesuffix("]")
        value = [item.strip() for item in text.split(",") if item.strip()]
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{value!r} is not a list")
    return tuple(value)


def _parse_item(item: Any) -> Any:
    """Parse text that is a number, True, None or quoted text; return any other text unchanged."""
    if not isinstance(item, str):
        return item
    try:
        return ast.literal_eval(item)
    except (ValueError, SyntaxError):
        return item


def _parse_text(item: Any) -> Any:
    """Remove the quotes of quoted text; `7` and `True` stay text."""
    parsed = _parse_item(item)
    return parsed if isinstance(parsed, str) else item
