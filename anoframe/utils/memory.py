"""Available memory, and tensors that are stored in a file when they do not fit into memory."""

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
    """Return the bytes that this process can still allocate without swapping, within the limit of a container."""
    available = psutil.virtual_memory().available
    try:  # psutil ignores container limits; only cgroup version 2 is read
        limit, used = ((_CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return available
    return available if limit == "max" else min(available, max(0, int(limit) - int(used)))


def fits_in_memory(size: int) -> bool:
    """Return whether `size` bytes are at most half of the available memory."""
    return size <= available_memory() // 2


def empty_or_memmap(shape: tuple[int, ...], description: str) -> Tensor:
    """Allocate a float32 tensor, in memory if it takes at most half of it, otherwise in a memory-mapped file.

    The file has no name and disappears together with the tensor, even if the process is killed.

    Args:
        shape: of the tensor.
        description: what the tensor holds (plural), used in the error message.

    Raises:
        AnoframeError: neither the memory nor the temporary folder has enough space.
    """
    size = 4 * prod(shape)
    if fits_in_memory(size):
        return torch.empty(shape)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if size > free:
        raise AnoframeError(
            f"{description} take {gigabytes(size)}, but half of the available memory is "
            f"{gigabytes(available_memory() // 2)} and {folder} has {gigabytes(free)} free. "
            "Point TMPDIR to a larger disk, or use fewer or smaller images"
        )
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        return torch.from_numpy(np.memmap(file, np.float32, "r+", shape=shape))


def gigabytes(size: float) -> str:
    """Format a number of bytes in GB.

    >>> gigabytes(1_234_567_890)
    '1.23 GB'
    """
    return f"{size / 1e9:.2f} GB"
