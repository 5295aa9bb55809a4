"""A method outside the package whose process kills itself during the fit: once, if an environment variable is set."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from anoframe.models.patchcore.model import PatchCore

CRASH_FILE = "ANOFRAME_TEST_CRASH_FILE"  # path of a file: the first process that creates it is killed


class CrashingPatchCore(PatchCore):
    """PatchCore in everything else."""

    def observe(self, features: Any, samples: Any) -> None:
        if path := os.environ.get(CRASH_FILE):
            try:
                Path(path).touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        super().observe(features, samples)
