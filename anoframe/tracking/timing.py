"""Duration of each stage of a run, and the peak memory of the process at its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from anoframe.tracking.tracker import Tracker


@dataclass
class Stage:
    """Totals of one stage over a run.

    Attributes:
        seconds: total duration.
        peak_bytes: peak memory of the process since its start, measured at the end of the stage.
        gpu_peak_bytes: peak memory that torch has allocated on the GPU since the start of the process.
    """

    seconds: float = 0.0
    peak_bytes: int = 0
    gpu_peak_bytes: int = 0


class StageTimer:
    """Measure named stages and log each as the event `stage`.

    Attributes:
        stages: name -> totals, in the order of the first start.
    """

    def __init__(self, tracker: Tracker):
        self.stages: dict[str, Stage] = {}
        self.tracker = tracker

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the body of a `with` statement and add it to the totals of the stage."""
        started = time.perf_counter()
        yield
        seconds = time.perf_counter() - started
        stage = self.stages.setdefault(name, Stage())
        stage.seconds += seconds
        stage.peak_bytes, stage.gpu_peak_bytes = peak_memory(), gpu_peak_memory()
        self.tracker.log("stage", name=name, seconds=round(seconds, 3), peak_bytes=stage.peak_bytes)


def peak_memory() -> int:
    """Return the peak resident size of this process in bytes; 0 if the system does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def gpu_peak_memory() -> int:
    """Return the peak GPU memory allocated by torch in bytes; 0 without a GPU."""
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
