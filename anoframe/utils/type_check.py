"""Checks of values against type annotations, and the words that error messages use for a type."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Union, get_args, get_origin

TYPE_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "text",
    tuple: "a list of values",
    list: "a list of values",
    type(None): "None",
}


class Alternatives(type):
    """Class of classes whose instances are those of any of `kinds`: `isinstance` accepts them all.

    `ml_collections` calls `isinstance` and `issubclass` with the type of a value, so a plain union is not enough.

    Attributes:
        kinds: types, and words that a text value can be.
    """

    kinds: tuple[type | str, ...]

    def __instancecheck__(cls, value: object) -> bool:
        return any(value == kind if isinstance(kind, str) else isinstance(value, kind) for kind in cls.kinds)


@cache
def alternatives(*kinds: type | str) -> Alternatives:
    """Return the class whose instances are those of any of these types, or one of these words; always the same one.

    >>> isinstance((3, 4), alternatives(int, tuple)), isinstance("3", alternatives(int, "auto"))
    (True, False)
    """
    names = [kind if isinstance(kind, str) else kind.__name__ for kind in kinds]
    return Alternatives("_or_".join(names), (), {"kinds": kinds})


def matches_type(value: Any, hint: Any) -> bool:
    """Return whether a value matches an annotation made of plain types; an unsupported annotation matches any value.

    An int matches float, but a bool matches neither int nor float. A list matches tuple, because YAML has only lists.
    NaN and infinity do not match float: no setting can use them.

    >>> matches_type(3, float), matches_type(True, int), matches_type(["a", 1], tuple[int | str, ...])
    (True, False, True)
    """
    if isinstance(hint, Alternatives):
        return any(value == kind if isinstance(kind, str) else matches_type(value, kind) for kind in hint.kinds)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(matches_type(value, option) for option in arguments)
    kind = origin or hint
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    if kind in (int, bool, str, type(None)):
        return type(value) is kind
    if kind in (list, tuple, Sequence):
        return isinstance(value, list | tuple) and _elements_match(value, arguments)
    if kind in (dict, Mapping):
        return hasattr(value, "keys") and (
            not arguments
            or all(matches_type(key, arguments[0]) and matches_type(value[key], arguments[1]) for key in value)
        )
    return True


def _elements_match(values: Sequence[Any], arguments: tuple[Any, ...]) -> bool:
    """Return whether each value matches one of the element types; without element types all values match."""
    options = [option for option in arguments if option is not Ellipsis]
    return not options or all(any(matches_type(value, option) for option in options) for value in values)


def type_words(hint: Any) -> str:
    """Describe an annotation for an error message.

    >>> type_words(float), type_words(str | None), type_words(tuple[int, ...])
    ('a number', 'text or None', 'a list of values')
    """
    if isinstance(hint, Alternatives):
        return " or ".join(repr(kind) if isinstance(kind, str) else type_words(kind) for kind in hint.kinds)
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(type_words(option) for option in get_args(hint))
    kind = get_origin(hint) or hint
    if kind in (dict, Mapping):
        return "a section of keys"
    return "a list of values" if kind is Sequence else TYPE_WORDS.get(kind, getattr(kind, "__name__", str(kind)))
