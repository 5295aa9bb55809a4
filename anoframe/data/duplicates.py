"""Search for files with equal content, such as a test image that is also a training image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path

from anoframe.utils.files import digest

_HEAD_BYTES = 1 << 16


def find_duplicates(first: Iterable[Path], second: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield pairs of a file of `first` and a file of `second` with equal content.

    Files are compared by size, then by their first bytes, and only the remaining ones by all bytes.
    """
    sides = [list(first), list(second)]
    keys: list[dict[Path, object]] = []
    for make_key in (_size, _head_digest, _content_digest):
        keys = [{path: make_key(path) for path in side} for side in sides]
        common = set(keys[0].values()) & set(keys[1].values())
        sides = [
            [path for path in side if key_by_path[path] in common]
            for side, key_by_path in zip(sides, keys, strict=True)
        ]
    original = {keys[0][path]: path for path in sides[0]}
    yield from ((original[keys[1][path]], path) for path in sides[1])


def _size(path: Path) -> int:
    return path.stat().st_size


def _head_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return _size(path).to_bytes(8, "little") + blake2b(file.read(_HEAD_BYTES)).digest()


def _content_digest(path: Path) -> str:
    return digest(path.read_bytes())
