"""Progress bars that know when nobody looks: in a log file or a test they print nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from anoframe.distributed import leads

T = TypeVar("T")


def progress(items: Iterable[T], what: str, unit: str = "it", total: int | None = None) -> Iterator[T]:
    """Iterate with a bar on a terminal, without one elsewhere; of several processes the first has it."""
    hidden = None if leads() else True
    yield from tqdm(items, desc=what, unit=unit, total=total, disable=hidden, leave=False, mininterval=0.5)
