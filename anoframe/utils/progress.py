"""Progress bars on a terminal, and lines above them; in log files and tests bars print nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from tqdm import tqdm

from anoframe.distributed.process_group import is_main_process
from anoframe.utils.console import escape_unknown

T = TypeVar("T")
_MAX_DESCRIPTION = 24  # letters
_MIN_BAR = 4
_STEPS = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


def print_line(text: str) -> None:
    """Print a line above the progress bars; a console that is closed or lacks letters raises nothing."""
    if sys.stdout is None:  # closed by the caller: `>&-`
        return
    with suppress(OSError, ValueError):  # ValueError: a closed stream
        tqdm.write(escape_unknown(text, sys.stdout))


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
    """Progress bar over training steps, with as many values next to it as the terminal is wide.

    Args:
        total: number of steps.
        description: text before the bar, cut if it is long.
        done: steps that were already finished when the bar is created.
    """

    def __init__(self, total: int, description: str, done: int = 0):
        if len(description) > _MAX_DESCRIPTION:
            description = f"{description[: _MAX_DESCRIPTION - 3]}..."
        options = {"bar_format": _STEPS, "dynamic_ncols": True, **_options()}
        self._bar = tqdm(total=total, initial=done, desc=description, unit="step", **options)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, values: Mapping[str, str]) -> None:
        """Advance by one step and show the given values, the most important first."""
        if not self._bar.disable:
            self._bar.set_postfix_str(self._fitting(values), refresh=False)
        self._bar.update()

    def _fitting(self, values: Mapping[str, str]) -> str:
        """Join the first values that fit into the line."""
        state = self._bar.format_dict
        texts = [f"{name} {value}" for name, value in values.items()]
        bare = tqdm.format_meter(**{**state, "postfix": None, "ncols": None})  # with a bar of ten letters
        room = (state["ncols"] or 80) - len(bare) + 10 - _MIN_BAR
        while texts and len(", ".join(["", *texts])) > room:
            texts.pop()
        return ", ".join(texts)


def _options() -> dict[str, Any]:
    # None lets tqdm decide: it shows no bar if the output is not a terminal.
    hidden = sys.stderr is None or not is_main_process()
    return {"disable": True if hidden else None, "leave": False, "mininterval": 0.5}
