"""How long each stage takes, and the most memory the process has held by its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from anoframe.tracking.tracker import Tracker


@dataclass
class Stage:
    """Totals of one stage over a run."""

    seconds: float = 0.0
    peak_bytes: int = 0  # of the process since it started, when the stage ended
    gpu_peak_bytes: int = 0  # allocated by torch since the process started


class Clock:
    """Times named stages and tells a tracker of each."""

    def __init__(self, tracker: Tracker):
        self.stages: dict[str, Stage] = {}
        self.tracker = tracker

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds = time.perf_counter() - started
        stage = self.stages.setdefault(name, Stage())
        stage.seconds += seconds
        stage.peak_bytes, stage.gpu_peak_bytes = peak_memory(), gpu_peak_memory()
        self.tracker.log("stage", name=name, seconds=round(seconds, 3), peak_bytes=stage.peak_bytes)


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def gpu_peak_memory() -> int:
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
