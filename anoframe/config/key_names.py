"""Dotted key names: lists of text, suggestions for unknown keys, and keys that moved to another section."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

TEXT_LISTS = ("categories", "wandb.tags", "data.also", "data.exclude")  # their items are text, also `7` and `no`
_CUTOFF = 0.5  # similarity below which a key is not suggested


def nearest_key(name: str, keys: Iterable[str]) -> str | None:
    """Return the known key that an unknown dotted name most probably stands for.

    A key that moved to another section has priority. Otherwise the letters of the whole names and of their last parts
    are compared; equal words count more.

    >>> nearest_key("model.memory_slots", ["model.slots", "model.memory.slots"])
    'model.memory.slots'
    >>> nearest_key("ratoi", ["model.coreset.ratio", "model.sigma"])
    'model.coreset.ratio'
    """
    candidates = list(keys)
    if moved := find_moved_key(name, candidates):
        return moved
    best = max(candidates, key=lambda key: _similarity(name, key), default=None)
    return best if best is not None and _similarity(name, best) >= _CUTOFF else None


def find_moved_key(name: str, keys: Iterable[str]) -> str | None:
    """Return the key that consists of, or ends with, the same words as `name`; None if there is none.

    >>> find_moved_key("model.memory_slots", ["model.slots", "model.memory.slots"])
    'model.memory.slots'
    >>> find_moved_key("model.shrink", ["model.memory.shrink"])
    'model.memory.shrink'
    """
    candidates, words = list(keys), _words(name)
    for same in (
        [key for key in candidates if _words(key)[-len(words) :] == words],
        [key for key in candidates if _last_part(key) == _last_part(name)],
    ):
        if same:
            return max(same, key=lambda key: SequenceMatcher(None, name, key).ratio())
    return None


def _words(name: str) -> list[str]:
    return re.split(r"[._]", name.lower())


def _last_part(name: str) -> str:
    return name.lower().rpartition(".")[2]


def _similarity(name: str, key: str) -> float:
    """Similarity of the letters, from 0 to 1, plus a bonus for words that both have."""
    whole = SequenceMatcher(None, name.lower(), key.lower()).ratio()
    last = SequenceMatcher(None, _last_part(name), _last_part(key)).ratio()
    words = set(_words(_last_part(name)))
    shared = len(words & set(_words(key))) / len(words)
    return max(whole, 0.9 * last) + 0.3 * shared  # 0.9: at a tie, the whole name decides
