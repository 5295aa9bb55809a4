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


def is_kind(value: Any, hint: Any) -> bool:
    """Whether a value fits an annotation made of plain types; one that is not understood takes anything.

    A whole number is a number, and True is neither. A list is a tuple, as it is after YAML. NaN and infinity are no
    numbers that a setting could have.

    >>> is_kind(3, float), is_kind(True, int), is_kind(["a", 1], tuple[int | str, ...]), is_kind(None, str)
    (True, False, True, False)
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(is_kind(value, one) for one in inner)
    kind = origin or hint
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    if kind in (int, bool, str, type(None)):
        return type(value) is kind
    if kind in (list, tuple, Sequence):
        elements = [one for one in inner if one is not Ellipsis]
        several = isinstance(value, list | tuple)
        return several and all(any(is_kind(v, one) for one in elements) for v in value if elements)
    if kind in (dict, Mapping):
        return hasattr(value, "keys") and (
            not inner or all(is_kind(key, inner[0]) and is_kind(value[key], inner[1]) for key in value)
        )
    return True


def kind_words(hint: Any) -> str:
    """
    >>> kind_words(float), kind_words(str | None), kind_words(tuple[int, ...])
    ('a number', 'text or None', 'a list of values')
    """
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(kind_words(one) for one in get_args(hint))
    kind = get_origin(hint) or hint
    if kind in (dict, Mapping):
        return "a section of keys"
    return "a list of values" if kind is Sequence else WORDS.get(kind, getattr(kind, "__name__", str(kind)))
