"""Progress bars on a terminal; in log files and tests they print nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

from anoframe.distributed.process_group import is_main_process

T = TypeVar("T")


def progress(items: Iterable[T], description: str, unit: str = "it", total: int | None = None) -> Iterator[T]:
    """Iterate over `items` with a progress bar, shown only by the main process and only on a terminal.

    Args:
        items: passed through unchanged.
        description: text before the bar.
        unit: name of one item.
        total: number of items, if `items` has no length.
    """
    yield from tqdm(items, desc=description, unit=unit, total=total, **_options())


class ProgressBar:
    """Progress bar over training steps, with values next to it.

    Args:
        total: number of steps.
        description: text before the bar.
        done: steps that were already finished when the bar is created.
    """

    def __init__(self, total: int, description: str, done: int = 0):
        self._bar = tqdm(total=total, initial=done, desc=description, unit="step", **_options())

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, **values: Any) -> None:
        """Advance by one step and show the given values."""
        self._bar.set_postfix(values, refresh=False)
        self._bar.update()


def _options() -> dict[str, Any]:
    # None lets tqdm decide: it shows no bar if the output is not a terminal.
    return {"disable": None if is_main_process() else True, "leave": False, "mininterval": 0.5}
