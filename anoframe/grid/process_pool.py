"""Cells in several processes of this machine; a process that dies does not affect the others."""

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

if TYPE_CHECKING:  # this file is imported in a worker before OMP_NUM_THREADS is set, so it must not import torch
    from anoframe.grid.cell_type import AnyCell
    from anoframe.grid.scheduler import Scheduler

_STOP_SECONDS = 20.0  # time for an interrupted cell to save its state


def run_in_processes(scheduler: Scheduler, count: int, log_folder: Path) -> None:
    """Run all waiting cells, `count` at a time; each process gets an equal share of the cores.

    Args:
        log_folder: the output of process `i` is appended to `worker_<i>.log` in this folder.

    Raises:
        AnoframeError: `count` is below 1.
    """
    if count < 1:
        raise AnoframeError(f"--workers must be 0, a number of processes, or ray; got {count}")
    log_folder.mkdir(parents=True, exist_ok=True)
    size = min(count, scheduler.num_unfinished)
    threads = max(1, available_cores() // max(size, 1))
    workers = [_Worker(threads, log_folder / f"worker_{i}.log") for i in range(size)]
    try:
        while scheduler.num_unfinished:
            for worker in workers:
                worker.start_next_cell(scheduler)
            wait([waitable for worker in workers for waitable in worker.waitables])
            for worker in workers:
                worker.collect(scheduler)
    finally:
        for worker in workers:
            worker.interrupt()
        for worker in workers:
            worker.stop()


def available_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """A process that runs one cell after another and is replaced when it dies."""

    def __init__(self, threads: int, log: Path):
        self._threads, self._log = threads, log
        self._cell: AnyCell | None = None
        self._start_process()

    def _start_process(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork may hang after torch has started threads
        self._pipe, child_pipe = context.Pipe()
        arguments = (child_pipe, self._threads, str(self._log))
        # Not a daemon: daemons may not start child processes, which decode images.
        self._process = context.Process(target=_worker_main, args=arguments, daemon=False)
        self._process.start()
        child_pipe.close()

    @property
    def waitables(self) -> list[Connection | int]:
        """Objects of which one becomes ready when the running cell ends; empty if no cell is running."""
        return [self._pipe, self._process.sentinel] if self._cell else []  # type: ignore[list-item]

    def start_next_cell(self, scheduler: Scheduler) -> None:
        """Take the next waiting cell if this worker is idle."""
        if self._cell is not None or (cell := scheduler.next_cell()) is None:
            return
        if not self._process.is_alive():
            self._start_process()
        self._cell = cell
        with suppress(OSError):  # the process has just died: `collect` handles it
            self._pipe.send(cell)

    def collect(self, scheduler: Scheduler) -> None:
        """Report the end of the running cell to the scheduler, if it has ended."""
        if self._cell is None or not wait(self.waitables, timeout=0):
            return
        cell, self._cell = self._cell, None
        try:
            failed = self._pipe.recv() if self._pipe.poll() else None
        except (EOFError, OSError):
            failed = None
        if failed is not None:
            scheduler.finish(cell, failed)
            return
        self.stop()
        scheduler.record_crash(cell, f"{_describe_exit(self._process.exitcode)}, see {self._log}")

    def interrupt(self) -> None:
        """Send the running cell the signal of Ctrl-C."""
        if self._cell is not None and self._process.pid and self._process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGINT)

    def stop(self) -> None:
        """End the process and all its child processes."""
        with suppress(OSError):
            self._pipe.send(None)
        self._process.join(_STOP_SECONDS)
        if hasattr(os, "killpg") and self._process.pid:
            with suppress(ProcessLookupError, PermissionError):  # no such group before `_worker_main` has started
                os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()


def _describe_exit(code: int | None) -> str:
    """Describe an exit code for the console.

    >>> _describe_exit(-9), _describe_exit(1)
    ('killed by signal 9', 'exit status 1')
    """
    return f"killed by signal {-code}" if code is not None and code < 0 else f"exit status {code}"


def _worker_main(pipe: Connection, threads: int, log: str) -> None:
    """Receive cells, run them and send back their failures, until None is received."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # own process group, so that `stop` can end the child processes too
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    with open(log, "a", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # torch reads it once, when the first cell imports it
    with suppress(KeyboardInterrupt):
        while (cell := pipe.recv()) is not None:
            pipe.send(cell.run())


def _exit_with_parent() -> None:
    """End this process when its parent ends, so that a killed grid leaves no cell that locks its run folder."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
