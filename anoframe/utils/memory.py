"""How much memory there is, and arrays that need not fit in it."""

from __future__ import annotations

import shutil
import tempfile
from math import prod
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

from anoframe.errors import AnoframeError

_CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Bytes that this process may still take without driving others out; a container's limit counts."""
    available = psutil.virtual_memory().available
    try:  # version 2 alone: psutil knows no container
        limit, used = ((_CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return available
    return available if limit == "max" else min(available, max(0, int(limit) - int(used)))


def fits(size: int) -> bool:
    """Whether so many bytes are at most half of what is free."""
    return size <= available_memory() // 2


def empty_or_memmap(shape: tuple[int, ...], what: str) -> Tensor:
    """A float32 tensor for something large: in memory, or where that would take more than half of it, in a file.

    The file has no name and goes with the tensor, whatever ends the process; the system writes and reads it as needed.

    Args:
        what: what an error calls it.

    Raises:
        AnoframeError: neither memory nor the temporary folder has the room.
    """
    size = 4 * prod(shape)
    if fits(size):
        return torch.empty(shape)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if size > free:
        raise AnoframeError(
            f"{what} take {gigabytes(size)}: half of the memory that is free is {gigabytes(available_memory() // 2)}, "
            f"and {folder} has {gigabytes(free)}. Point TMPDIR to a larger disk, or learn from fewer or smaller images"
        )
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        return torch.from_numpy(np.memmap(file, np.float32, "r+", shape=shape))


def gigabytes(size: float) -> str:
    """
    >>> gigabytes(1_234_567_890)
    '1.23 GB'
    """
    return f"{size / 1e9:.2f} GB"
