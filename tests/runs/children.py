"""Child processes that tests kill."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from typing import Any

SECONDS = 120  # after which a child is considered to hang
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["anoframe.runs.api", "timm", "torchvision"])  # imported once, not in each child


def start(function: Callable[..., Any], *args: Any) -> Any:
    """Start `function(*args)` in a process of its own; the function is in a test module and its arguments pickle."""
    child = _context.Process(target=function, args=args)
    child.start()
    return child


def kill_when(child: Any, is_due: Callable[[], bool]) -> None:
    """Send SIGKILL to a child as soon as a condition holds, and check that the child had not ended before."""
    deadline = time.monotonic() + SECONDS
    while not is_due() and child.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert child.exitcode == -signal.SIGKILL
