"""Provenance of a result: versions, git commit and machine. Numbers are comparable only if these agree."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anoframe

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow")


def versions() -> dict[str, str]:
    """Return the versions of anoframe and of the packages that can change a number."""
    return {"anoframe": anoframe.__version__, **{name: version(name) for name in _PACKAGES}}


@cache
def git_commit() -> str | None:
    """Return the commit of the checkout, with `+` if tracked files differ from it; None outside a checkout."""
    root = Path(anoframe.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def machine() -> dict[str, Any]:
    """Describe the machine for `run.json`, without its host name."""
    import os
    import platform

    import torch

    gpus = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "python": platform.python_version(),
    }
