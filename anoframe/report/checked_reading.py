"""Checked reading of a run folder, which is untrusted data: names are checked before they become paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anoframe.errors import AnoframeError
from anoframe.utils.files import read_json


def check_objects(tree: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """Return the tree after checking that these keys, where present, hold JSON objects."""
    for key in keys:
        if not isinstance(tree.get(key, {}), dict):
            raise TypeError(f"{key} holds {type(tree[key]).__name__}, expected keys and values")
    return dict(tree)


def path_inside(folder: Path, name: Any, what: str) -> Path:
    """Return the path of a name in a folder; raise AnoframeError if the name or a link points outside it."""
    plain = isinstance(name, str) and name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0"}
    path = folder / name if plain else folder
    if not plain or path.resolve().parent != folder.resolve():
        raise AnoframeError(f"{folder}: the {what} name {name!r} points outside this folder: correct or remove it")
    return path


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty if there is no such file."""
    return check_object(path, read_json(path)) if path.is_file() else {}


def check_object(path: Path, tree: Any) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise AnoframeError(f"{path} is damaged: it holds {type(tree).__name__}, expected keys and values")
    return tree


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Turn errors of reading damaged content into an AnoframeError that names the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AnoframeError(
            f"{path} is damaged ({type(error).__name__}: {error}): restore it, or run the category again"
        ) from error
