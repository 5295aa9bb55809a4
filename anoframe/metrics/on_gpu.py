"""Scores that lie on a GPU as a torch tensor: counted there, so that only those of the positives travel.

Nothing here imports torch before a tensor has come in.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK = 2**24  # scores sorted at a time: sorting takes 12 bytes each of the GPU's memory, and as much to work in


def is_on_gpu(array: Any) -> bool:
    """Whether it is a torch tensor outside the host's memory."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor) and array.device.type != "cpu"


def to_host(array: Any) -> Any:
    """A tensor on a GPU as a NumPy array; anything else as it is."""
    return array.numpy(force=True) if is_on_gpu(array) else array


def count_on_gpu(scores: Any, thresholds: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`sweep.count_scores`, where the scores are."""
    import torch

    marks = torch.from_numpy(thresholds.copy()).to(scores.device)  # a copy: torch knows no falling strides
    below, up_to = torch.zeros((2, len(marks)), dtype=torch.int64, device=scores.device)
    for part in scores.flatten().split(CHUNK):
        ordered = part.sort().values
        below += torch.searchsorted(ordered, marks)
        up_to += torch.searchsorted(ordered, marks, right=True)
    return below.numpy(force=True), up_to.numpy(force=True)
