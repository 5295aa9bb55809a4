"""The OpenVINO core of a process."""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import Any

_CREATING = Lock()


def openvino_core() -> Any:
    """Return the OpenVINO core of this process, which lives until its end.

    OpenVINO 2026.4 gives the thread that creates a core a stack for signal handlers. It frees the stack with the core,
    but removes it from the thread only if cores end in the thread, and in the reverse order, of their creation.
    Otherwise the next signal, for example Ctrl-C, ends the process with a segmentation fault.
    """
    with _CREATING:  # two threads would create two cores
        return _core()


@cache
def _core() -> Any:
    import openvino

    return openvino.Core()
