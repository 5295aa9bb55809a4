"""Cells and a scheduler without torch: their processes start in a fraction of a second."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StubCell:
    """The part of `Cell` that a scheduler and its workers use."""

    name: str
    done: bool = False
    categories: tuple[str, ...] = ("felt",)

    def is_done(self) -> bool:
        return self.done

    def run(self) -> dict[str, str]:
        print(f"output of {self.name}", flush=True)
        return {}


@dataclass(frozen=True)
class FailingCell(StubCell):
    """A cell that reports a failure."""

    def run(self) -> dict[str, str]:
        return {"felt": "no images"}


@dataclass(frozen=True)
class KilledCell(StubCell):
    """A cell whose process is killed each time."""

    def run(self) -> dict[str, str]:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}


@dataclass(frozen=True)
class EndlessCell(StubCell):
    """A cell that creates a file when it starts, and another one when it is interrupted."""

    folder: str = ""

    def run(self) -> dict[str, str]:
        (Path(self.folder) / "started").touch()
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            (Path(self.folder) / "interrupted").touch()
            raise
        return {}


class SingleCellScheduler:
    """The part of `Scheduler` that workers use, for a cell that never ends."""

    num_unfinished = 1

    def __init__(self, cell: StubCell) -> None:
        self._waiting = [cell]

    def next_cell(self) -> StubCell | None:
        return self._waiting.pop() if self._waiting else None
