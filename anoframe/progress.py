"""Progress bars that know when nobody looks: in a log file or a test they print nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(items: Iterable[T], what: str, unit: str = "it", total: int | None = None) -> Iterator[T]:
    """Iterate with a bar on a terminal, without one elsewhere."""
    yield from tqdm(items, desc=what, unit=unit, total=total, disable=None, leave=False, mininterval=0.5)
