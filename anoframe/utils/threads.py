"""Threads that share the processors with other work."""

from __future__ import annotations

import os

_POLICY = "OMP_WAIT_POLICY"


def wait_without_spinning() -> None:
    """Let the threads of torch sleep while they wait for one another, instead of using a processor; not if it is set.

    By default OpenMP threads spin for milliseconds after each operation. On processors that other programs use as well,
    the spinning takes the time that the others, or the awaited thread itself, would need. Call it before torch is
    imported, which reads the setting once; processes that are started later inherit it.
    """
    os.environ.setdefault(_POLICY, "PASSIVE")
