"""A method outside the package whose process is killed while it learns: once, if the environment says so."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from anoframe.models.patchcore.model import PatchCore

ONCE = "ANOFRAME_TEST_DIES_ONCE"  # a file that does not exist yet: the first to make it dies
SLEEPS = "ANOFRAME_TEST_SLEEPS"  # a file that says that a cell is learning, which then never ends


class DyingPatchCore(PatchCore):
    """PatchCore in all else."""

    def observe(self, features: Any, samples: Any) -> None:
        if path := os.environ.get(SLEEPS):
            Path(path).touch()
            time.sleep(600)
        if path := os.environ.get(ONCE):
            try:
                Path(path).touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        super().observe(features, samples)
