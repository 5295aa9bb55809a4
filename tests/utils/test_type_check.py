"""Checks of values against annotations, and the words for a type in error messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from anoframe.config import ConfigDict
from anoframe.utils.type_check import matches_type, type_words


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (3, int),
        (3, float),
        (0.5, float),
        (True, bool),
        ("a", str),
        (None, str | None),
        ([1, 2], tuple[int, ...]),
        ((1, "a"), Sequence[int | str]),
        ([], tuple),
        ({"a": 1}, dict[str, int]),
        ({"a": 1}, Mapping[str, Any] | None),
        (ConfigDict({"a": 1}), Mapping[str, Any]),
        (object(), Any),
        (None, "an unsupported annotation"),
    ],
)
def test_value_matches_the_annotation(value, hint):
    assert matches_type(value, hint)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (True, int),
        (True, float),
        (3.0, int),
        (float("nan"), float),
        (float("inf"), float),
        (1, bool),
        (None, str),
        ("ab", Sequence[str]),
        ([1, "a"], tuple[int, ...]),
        ({"a": "b"}, dict[str, int]),
        ({1: 1}, dict[str, int]),
        ("a", Mapping[str, Any]),
        ("a", int | None),
    ],
)
def test_value_does_not_match_the_annotation(value, hint):
    assert not matches_type(value, hint)


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "a whole number"),
        (str | None, "text or None"),
        (Sequence[int | str], "a list of values"),
        (Mapping[str, Any], "a section of keys"),
    ],
)
def test_words_of_a_type(hint, words):
    assert type_words(hint) == words
