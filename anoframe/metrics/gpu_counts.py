"""Count scores on the GPU if they are a torch tensor there; only the scores of positives are copied to the host.

This module imports torch only after the caller has passed a tensor.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK = 2**24  # scores per sort: 12 bytes of GPU memory each for the result, and as much again as workspace


def is_on_gpu(array: Any) -> bool:
    """Whether an object is a torch tensor on a device other than the CPU."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor) and array.device.type != "cpu"


def to_host(array: Any) -> Any:
    """Convert a GPU tensor to a NumPy array; return anything else unchanged."""
    return array.numpy(force=True) if is_on_gpu(array) else array


def count_on_gpu(scores: Any, thresholds: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Compute `threshold_sweep.count_scores` on the device of the scores."""
    import torch

    limits = torch.from_numpy(thresholds.copy()).to(scores.device)  # a copy: torch accepts no negative strides
    below, up_to = torch.zeros((2, len(limits)), dtype=torch.int64, device=scores.device)
    for chunk in scores.flatten().split(CHUNK):
        ordered = chunk.sort().values
        below += torch.searchsorted(ordered, limits)
        up_to += torch.searchsorted(ordered, limits, right=True)
    return below.numpy(force=True), up_to.numpy(force=True)
