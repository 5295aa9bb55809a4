"""Checks of the arrays that metrics take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anoframe.metrics.gpu_counts import is_on_gpu, to_host

Labels = NDArray[np.bool_]
# Any real dtype, or a tensor on a GPU. Scores are never converted: float32 would tie distinct float64 scores.
Scores = NDArray[Any]


def as_labels(labels: ArrayLike) -> Labels:
    """Convert labels to bool; raises ValueError for a value other than 0 and 1."""
    array = np.asarray(to_host(labels))
    if array.dtype == bool:
        return array
    invalid = array[(array != 0) & (array != 1)]
    if invalid.size:
        raise ValueError(f"labels must be 0 or 1; got {invalid.size} other values, the first is {invalid.flat[0]}")
    return array.astype(bool)


def as_scores(scores: ArrayLike) -> Scores:
    """Return scores unchanged; raises ValueError for NaN and for a dtype that is not real.

    Infinite scores are allowed and rank like any other.
    """
    if is_on_gpu(scores):
        tensor: Any = scores
        if tensor.isnan().any():
            _raise_for_nan(to_host(tensor.isnan()))
        return tensor
    array = np.asarray(scores)
    if array.size and array.dtype.kind not in "fiub":
        raise ValueError(f"scores must be real numbers; got dtype {array.dtype}")
    if array.size and array.dtype.kind == "f" and np.isnan(array.min()):  # min is NaN if any is: no temporary array
        _raise_for_nan(np.isnan(array))
    return array


def _raise_for_nan(flags: Labels) -> None:
    count = np.count_nonzero(flags)
    first = tuple(int(i) for i in np.argwhere(flags)[0])
    raise ValueError(f"scores hold {count} NaN among {flags.size} values, the first at index {first}")


def as_pair(labels: ArrayLike, scores: ArrayLike) -> tuple[Labels, Scores]:
    """Check labels and scores of the same shape (any shape)."""
    flags, values = as_labels(labels), as_scores(scores)
    if flags.shape != values.shape:
        raise ValueError(f"labels and scores must have one shape; got {flags.shape} and {values.shape}")
    return flags, values


def as_maps(masks: ArrayLike, maps: ArrayLike) -> tuple[Labels, Scores]:
    """Check masks and anomaly maps, both [n, H, W]."""
    flags, values = as_pair(masks, maps)
    if flags.ndim != 3:
        raise ValueError(f"masks and maps must be [n, H, W]; got {flags.shape}")
    return flags, values


def check_limit(limit: float) -> None:
    """Raise ValueError unless 0 < limit <= 1."""
    if not 0 < limit <= 1:
        raise ValueError(f"the limit of the false-positive rate must lie in (0, 1]; got {limit!r}")
