"""Progress bars that know when nobody looks: in a log file or a test they print nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

from anoframe.distributed.process_group import is_main_process

T = TypeVar("T")


def progress(items: Iterable[T], what: str, unit: str = "it", total: int | None = None) -> Iterator[T]:
    """Iterate with a bar on a terminal, without one elsewhere; of several processes the first has it."""
    yield from tqdm(items, desc=what, unit=unit, total=total, **_looks())


class Bar:
    """A bar of so many steps that shows values as they change.

    Args:
        done: steps that were taken before.
    """

    def __init__(self, total: int, what: str, done: int = 0):
        self._bar = tqdm(total=total, initial=done, desc=what, unit="step", **_looks())

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, **shown: Any) -> None:
        """One step more."""
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()


def _looks() -> dict[str, Any]:
    return {"disable": None if is_main_process() else True, "leave": False, "mininterval": 0.5}
