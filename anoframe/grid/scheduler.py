"""Which cells of a grid wait, run, and have ended; what is shown of that."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from tqdm import tqdm

from anoframe.grid.cells import Cell
from anoframe.report.grid_table import Failure

RETRIES = 2  # of a cell whose process died: a machine that takes it away once may not do so again


class Board:
    """Hands out cells and takes back how they ended. Use it as a context manager: it shows a bar on a terminal."""

    def __init__(self, cells: Sequence[Cell]):
        self._waiting = deque(cell for cell in cells if not cell.is_done())
        self._running: list[Cell] = []
        self._deaths: Counter[str] = Counter()
        self.failures: list[Failure] = []
        before = len(cells) - len(self._waiting)
        self._bar = tqdm(
            total=len(cells), initial=before, desc="cells", unit="cell", disable=None, mininterval=0, dynamic_ncols=True
        )
        if before:
            tqdm.write(f"{before} of {len(cells)} cells were done before")

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    @property
    def unfinished(self) -> int:
        """How many cells have not ended."""
        return len(self._waiting) + len(self._running)

    def take(self) -> Cell | None:
        """A cell to run now; None where no more wait."""
        if not self._waiting:
            return None
        self._running.append(self._waiting.popleft())
        self._show()
        return self._running[-1]

    def ended(self, cell: Cell, failed: dict[str, str]) -> None:
        """A cell has come to its end.

        Args:
            failed: what failed in it -> why.
        """
        self._running.remove(cell)
        for reason in dict.fromkeys(failed.values()):
            names = "+".join(name for name, why in failed.items() if why == reason)
            self.failures.append(Failure(cell.name if names == "+".join(cell.categories) else _of(cell, names), reason))
        tqdm.write(f"{'FAILED' if failed else 'done'}: {cell.name}")
        self._bar.update()
        self._show()

    def died(self, cell: Cell, how: str) -> None:
        """The process of a cell has ended before the cell: it is tried again, after the others, or given up."""
        self._deaths[cell.name] += 1
        if self._deaths[cell.name] > RETRIES:
            tries = self._deaths[cell.name]
            self.ended(cell, {"+".join(cell.categories): f"its process died {tries} times, the last time: {how}"})
            return
        tqdm.write(f"{cell.name}: its process died ({how}), it is tried again")
        self._running.remove(cell)
        self._waiting.append(cell)
        self._show()

    def _show(self) -> None:
        self._bar.set_postfix_str("; ".join(cell.name for cell in self._running))


def _of(cell: Cell, names: str) -> str:
    return f"{cell.name}, {names}"
