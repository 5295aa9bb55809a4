"""Cells in several processes of this machine, each of which may die without harm to the others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from anoframe.errors import AnoframeError

if TYPE_CHECKING:  # a worker imports this file before it has said how many threads torch may start with
    from anoframe.grid.cells import Cell
    from anoframe.grid.scheduler import Board

_PATIENCE = 20.0  # seconds in which a cell that is interrupted notes how far it came


def run_in_processes(board: Board, count: int, logs: Path) -> None:
    """Run what waits on the board, `count` cells at a time, the cores divided among them.

    Args:
        logs: a folder; what a process prints goes to a file in it.
    """
    if count < 1:
        raise AnoframeError(f"--workers takes 0, a number of processes, or ray, got {count}")
    logs.mkdir(parents=True, exist_ok=True)
    size = min(count, board.unfinished)
    threads = max(1, cores() // max(size, 1))
    workers = [_Worker(threads, logs / f"worker_{i}.log") for i in range(size)]
    try:
        while board.unfinished:
            for worker in workers:
                worker.feed(board)
            wait([end for worker in workers for end in worker.ends])
            for worker in workers:
                worker.collect(board)
    finally:
        for worker in workers:
            worker.interrupt()
        for worker in workers:
            worker.stop()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """A process that runs one cell after another; a new one takes its place when it dies."""

    def __init__(self, threads: int, log: Path):
        self._threads, self._log = threads, log
        self._cell: Cell | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork of a process that has used torch may hang
        self._pipe, theirs = context.Pipe()
        # Not a daemon: those may not start processes that decode images.
        self._process = context.Process(target=_work, args=(theirs, self._threads, str(self._log)), daemon=False)
        self._process.start()
        theirs.close()

    @property
    def ends(self) -> list[Connection | int]:
        """What becomes ready when there is something to collect."""
        return [self._pipe, self._process.sentinel] if self._cell else []  # type: ignore[list-item]

    def feed(self, board: Board) -> None:
        """Give it a cell, where it has none and one waits."""
        if self._cell is not None or (cell := board.take()) is None:
            return
        if not self._process.is_alive():
            self._start()
        self._cell = cell
        with suppress(OSError):  # it has just died, which `collect` will see
            self._pipe.send(cell)

    def collect(self, board: Board) -> None:
        """Tell the board how its cell ended, if it has."""
        if self._cell is None or not wait(self.ends, timeout=0):
            return
        cell, self._cell = self._cell, None
        try:
            failed = self._pipe.recv() if self._pipe.poll() else None
        except (EOFError, OSError):
            failed = None
        if failed is not None:
            board.ended(cell, failed)
            return
        self.stop()
        board.died(cell, f"{_how(self._process.exitcode)}, see {self._log}")

    def interrupt(self) -> None:
        """Ask for the end of what it does now, as Ctrl-C does."""
        if self._cell is not None and self._process.pid and self._process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGINT)

    def stop(self) -> None:
        """End the process, and all that it has started."""
        with suppress(OSError):
            self._pipe.send(None)
        self._process.join(_PATIENCE)
        if hasattr(os, "killpg") and self._process.pid:
            with suppress(ProcessLookupError, PermissionError):  # its own group, once it has begun
                os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()


def _how(code: int | None) -> str:
    """
    >>> _how(-9), _how(1)
    ('killed by signal 9', 'it ended with status 1')
    """
    return f"killed by signal {-code}" if code is not None and code < 0 else f"it ended with status {code}"


def _work(pipe: Connection, threads: int, log: str) -> None:
    """What a worker does: cells until there are none."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # what it starts ends with it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with open(log, "a", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # before torch is loaded, which reads it once
    from anoframe.grid.cells import run_cell

    with suppress(KeyboardInterrupt):
        while (cell := pipe.recv()) is not None:
            pipe.send(run_cell(cell))


def _end_with_parent() -> None:
    """A grid that is killed leaves no cells behind that hold their folders."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
