"""Queue of the cells of a grid: waiting, running and failed cells, and the progress bar."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tqdm import tqdm

from anoframe.report.grid_table import Failure
from anoframe.utils.progress import print_line

if TYPE_CHECKING:
    from anoframe.grid.cell_type import AnyCell

MAX_RETRIES = 2  # of a cell whose process died: out of memory or a kill may not happen again


class Scheduler:
    """Hand out cells and record how they end.

    Use it as a context manager: it shows a progress bar on a terminal.

    Args:
        cells: all cells of the grid; finished ones are skipped.

    Attributes:
        failures: failed cells and categories, in the order of their ends.
    """

    def __init__(self, cells: Sequence[AnyCell]):
        self._waiting = deque(cell for cell in cells if not cell.is_done())
        self._running: list[AnyCell] = []
        self._crashes: Counter[str] = Counter()
        self.failures: list[Failure] = []
        done = len(cells) - len(self._waiting)
        self._bar = tqdm(
            total=len(cells), initial=done, desc="cells", unit="cell", disable=None, mininterval=0, dynamic_ncols=True
        )
        if done:
            print_line(f"{done} of {len(cells)} cells already done")

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    @property
    def num_unfinished(self) -> int:
        """Number of waiting and running cells."""
        return len(self._waiting) + len(self._running)

    def next_cell(self) -> AnyCell | None:
        """Take the next cell to run; None if no cell is waiting."""
        if not self._waiting:
            return None
        self._running.append(self._waiting.popleft())
        self._update_bar()
        return self._running[-1]

    def finish(self, cell: AnyCell, failed: dict[str, str]) -> None:
        """Record the end of a running cell.

        Args:
            failed: failed category (or several, joined by `+`) -> reason; empty if the cell succeeded.
        """
        self._running.remove(cell)
        for reason in dict.fromkeys(failed.values()):
            names = "+".join(name for name, text in failed.items() if text == reason)
            is_whole_cell = names == "+".join(cell.categories)
            self.failures.append(Failure(cell.name if is_whole_cell else f"{cell.name}, {names}", reason))
        print_line(f"{'FAILED' if failed else 'done'}: {cell.name}")
        self._bar.update()
        self._update_bar()

    def record_crash(self, cell: AnyCell, reason: str) -> None:
        """Queue a cell whose process died behind the others, or record its failure after `MAX_RETRIES` retries."""
        self._crashes[cell.name] += 1
        count = self._crashes[cell.name]
        if count > MAX_RETRIES:
            self.finish(cell, {"+".join(cell.categories): f"its process died {count} times, last: {reason}"})
            return
        print_line(f"{cell.name}: its process died ({reason}), retrying later")
        self._running.remove(cell)
        self._waiting.append(cell)
        self._update_bar()

    def _update_bar(self) -> None:
        self._bar.set_postfix_str("; ".join(cell.name for cell in self._running))
