"""Whether a value is of the kind that a parameter or a config key takes, and how a message calls that kind."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from typing import Any, Union, get_args, get_origin

WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "text",
    tuple: "a list of values",
    list: "a list of values",
    type(None): "None",
}


def matches_type(value: Any, hint: Any) -> bool:
    """Whether a value fits an annotation made of plain types; one that is not understood takes anything.

    A whole number is a number, and True is neither. A list is a tuple, as it is after YAML. NaN and infinity are no
    numbers that a setting could have.

    >>> matches_type(3, float), matches_type(True, int), matches_type(["a", 1], tuple[int | str, ...])
    (True, False, True)
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(matches_type(value, one) for one in inner)
    kind = origin or hint
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    if kind in (int, bool, str, type(None)):
        return type(value) is kind
    if kind in (list, tuple, Sequence):
        elements = [one for one in inner if one is not Ellipsis]
        several = isinstance(value, list | tuple)
        return several and all(any(matches_type(v, one) for one in elements) for v in value if elements)
    if kind in (dict, Mapping):
        return hasattr(value, "keys") and (
            not inner or all(matches_type(key, inner[0]) and matches_type(value[key], inner[1]) for key in value)
        )
    return True


def type_words(hint: Any) -> str:
    """
    >>> type_words(float), type_words(str | None), type_words(tuple[int, ...])
    ('a number', 'text or None', 'a list of values')
    """
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(type_words(one) for one in get_args(hint))
    kind = get_origin(hint) or hint
    if kind in (dict, Mapping):
        return "a section of keys"
    return "a list of values" if kind is Sequence else WORDS.get(kind, getattr(kind, "__name__", str(kind)))
