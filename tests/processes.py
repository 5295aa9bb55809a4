"""Run functions in several processes that have joined a process group on the CPU, as torchrun would start them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

SECONDS = 120  # after this time a process is considered to hang

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["anoframe.runs.api", "timm", "torchvision"])  # imported once, not in each process


class ProcessExited(Exception):
    """Some process exited without returning a result. The argument is the list of exit statuses of all processes."""


class ProcessPool:
    """Joined processes that run one function after another.

    A function must leave its process as it was: no patched modules, no changed environment.
    """

    def __init__(self, size: int = 2):
        self._size = size
        self._processes: list[Any] = []
        self._pipes: list[Any] = []

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Call `function(group, *args)` in each process; returns the results in the order of ranks.

        Args:
            function: at the top level of a test module. Its arguments and results are pickled.

        Raises:
            ProcessExited: some process exited.
            AssertionError: the function raised an exception in some process; the message is its traceback.
        """
        if not self._processes:
            self._start()
        for pipe in self._pipes:
            pipe.send_bytes(pickle.dumps((function, args)))
        results = [_receive(pipe) for pipe in self._pipes]
        if any(result is None for result in results):
            raise ProcessExited(self._stop())
        failures = [value for succeeded, value in results if not succeeded]
        if failures:
            self._stop()  # the other process may still wait for the one that failed
            raise AssertionError(failures[0])
        return [value for _, value in results]

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.send_bytes(pickle.dumps(None))
        assert None not in self._stop(), "a process hangs"

    def _start(self) -> None:
        import torch.distributed as dist

        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # in the parent, as in torchrun
        self._store = store  # must live as long as the processes
        for rank in range(self._size):
            pipe, child_pipe = _context.Pipe()
            process = _context.Process(target=_work, args=(rank, self._size, store.port, child_pipe))
            process.start()
            child_pipe.close()
            self._processes.append(process)
            self._pipes.append(pipe)

    def _stop(self) -> list[int | None]:
        """Wait for the processes to exit; returns their exit statuses, None for a process that had to be killed."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(SECONDS)
        statuses = [process.exitcode for process in self._processes]
        for process in self._processes:
            process.kill()
        self._processes, self._pipes = [], []
        return statuses


@pytest.fixture(scope="module")
def process_pool() -> Iterator[ProcessPool]:
    """Two joined processes for all tests of a module."""
    pool = ProcessPool()
    yield pool
    pool.close()


def run_in_processes(function: Callable[..., Any], *args: Any) -> list[Any]:
    """Run a function in two new processes, which it may change or end; otherwise as `ProcessPool.run`."""
    pool = ProcessPool()
    results = pool.run(function, *args)
    pool.close()
    return results


def _receive(pipe: Any) -> tuple[bool, Any] | None:
    """Result of a process; None if it exited."""
    try:
        return pickle.loads(pipe.recv_bytes()) if pipe.poll(SECONDS) else None
    except (EOFError, ConnectionResetError):
        return None


def _work(rank: int, size: int, port: int, pipe: Any) -> None:
    """Join the group, then run each function that comes through the pipe."""
    import torch

    from anoframe.distributed import process_group

    torch.set_num_threads(1)
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in numbers.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    group = process_group.join("cpu")
    while (task := _next_task(pipe)) is not None:
        function, args = task
        try:
            result = True, function(group, *args)
        except Exception:
            result = False, traceback.format_exc()
        pipe.send_bytes(pickle.dumps(result))  # pickled by value: torch would share tensors of a process that may end
    process_group.leave()


def _next_task(pipe: Any) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
    try:
        return pickle.loads(pipe.recv_bytes())
    except EOFError:
        return None
