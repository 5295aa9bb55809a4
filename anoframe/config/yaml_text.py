"""YAML text of configs: values are read by the type of their key, not by their spelling.

PyYAML follows YAML 1.1, for which `5e-3` and `-.5` are text. Python, the command line and YAML 1.2 take them for
numbers, and so does this module, except where a key takes text: a category may be called `1e5`.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference, placeholder

from anoframe.config.key_names import TEXT_LISTS
from anoframe.utils.type_check import Alternatives, alternatives

_TAG = "!number-of-yaml-1.2"
_NUMBER = re.compile(r"^[-+]?((\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+|\.[0-9]+)$")


def one_of(value: Any, *kinds: type | str) -> FieldReference:
    """Return a config value that can be replaced by one of any of these types, or by one of these words.

    >>> cfg = ConfigDict({"resize": one_of(256, int, tuple)})
    >>> cfg.resize = (320, 160)
    """
    kind = alternatives(*kinds)
    allowed = value is None or isinstance(value, kind)  # a value of another type is left for the checks
    return FieldReference(value, field_type=kind if allowed else type(value))


class _Number(float):
    """A number that is text in YAML 1.1, with its spelling."""

    spelling: str


class _Loader(yaml.SafeLoader):
    """Reads numbers of YAML 1.2."""


class _Dumper(yaml.SafeDumper):
    """Puts text in quotes that `_Loader` would read as a number."""


def _construct_number(loader: _Loader, node: yaml.ScalarNode) -> _Number:
    number = _Number(node.value)
    number.spelling = node.value
    return number


for _class in (_Loader, _Dumper):  # after the resolvers of YAML 1.1: only what they take for text
    _class.add_implicit_resolver(_TAG, _NUMBER, list("-+.0123456789"))
_Loader.add_constructor(_TAG, _construct_number)


def parse_yaml(text: str) -> Any:
    """Parse YAML; pass a tree of config keys to `with_types` before its values are used.

    Raises:
        yaml.YAMLError: the text is not YAML.
    """
    return yaml.load(text, Loader=_Loader)


def read_plain(text: str) -> Any:
    """Return the value that text has without quotes, `5e-3` as a number; None if it is not YAML."""
    try:
        return _settle(parse_yaml(text), None)
    except (yaml.YAMLError, ValueError):
        return None


def dump_yaml(tree: dict[str, Any]) -> str:
    """Format a tree as YAML text that `parse_yaml` reads back."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def with_types(tree: dict[Any, Any], reference: ConfigDict | None, prefix: str = "") -> dict[Any, Any]:
    """Give the values of a parsed tree the types that their keys have in a reference config.

    Lists become tuples. A whole number of a float key becomes a float, and None a placeholder of the key's type, so
    that an override of the key is converted as for a Python config. A value of a wrong type is left for the checks.

    Args:
        tree: from `parse_yaml`.
        reference: a config with the known keys; keys that it lacks are converted without knowledge of their type.
        prefix: dotted name of `tree` in the config, with a trailing dot.
    """
    typed: dict[Any, Any] = {}
    for key, value in tree.items():
        default, kind = (reference[key], reference.get_type(key)) if reference and key in reference else (None, None)
        section = default if isinstance(default, ConfigDict) else None
        if isinstance(value, dict):
            typed[key] = with_types(value, section, f"{prefix}{key}.")
        elif isinstance(kind, Alternatives) and not isinstance(value, _Number):
            typed[key] = one_of(tuple(value) if isinstance(value, list) else value, *kind.kinds)
        elif isinstance(value, list):
            takes_text = f"{prefix}{key}" in TEXT_LISTS
            typed[key] = tuple(_settle(item, str if takes_text else None) for item in value)
        elif value is None and kind is not None and section is None:
            typed[key] = placeholder(kind)
        else:
            typed[key] = _settle(value, kind)
    return typed


def _settle(value: Any, kind: type | None) -> Any:
    """Decide whether a `_Number` is text, and convert a whole number where the key takes a float."""
    if isinstance(value, _Number):
        return value.spelling if kind is str else float(value)
    if isinstance(value, list):
        return [_settle(item, None) for item in value]
    if isinstance(value, dict):
        return {key: _settle(item, None) for key, item in value.items()}
    return float(value) if kind is float and type(value) is int else value
