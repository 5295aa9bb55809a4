"""Median filters for masks and small grey-level images, exact and fast."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from skimage.filters.rank import median as rank_median
from skimage.morphology import disk

from anoframe.data.synthesis.base import Field, Mask, Pixels


def median_mask(mask: Mask, side: int) -> Mask:
    """Return the median of a mask in a square window of odd `side`: True where more than half of the pixels are True.

    Pixels outside of the image are those of its border.
    """
    ones = np.ones(side, np.int32)
    count = correlate1d(correlate1d(mask.astype(np.int32), ones, axis=0, mode="nearest"), ones, axis=1, mode="nearest")
    return count > side * side // 2


def changed_mask(before: Pixels, after: Pixels, within: Mask, tolerance: float) -> Mask:
    """Mark the pixels whose mean absolute change over the channels is above `tolerance` grey levels.

    A 5 x 5 median removes single pixels (NSA, `label_mask`). The result lies inside `within`.
    """
    mask = np.zeros_like(within)
    if within.any():
        area = surroundings(within, 3)
        changed = (summed_change(before[area], after[area]) > 3 * tolerance) & within[area]
        mask[area] = median_mask(changed, 5) & within[area]
    return mask


def summed_change(before: Pixels, after: Pixels) -> NDArray[np.int16]:
    """Return the absolute change, summed over the three channels, [H, W]."""
    return channel_sum(np.abs(before.astype(np.int16) - after))


def channel_sum(values: NDArray[Any]) -> NDArray[np.int16]:
    """Return the sum over three channels, [H, W]; much faster than `sum(axis=2)`."""
    total: NDArray[np.int16] = values[..., 0].astype(np.int16)
    total += values[..., 1]
    total += values[..., 2]
    return total


def surroundings(mask: Mask, margin: int) -> tuple[slice, slice]:
    """Return the bounding box of a non-empty mask with a margin, as an index; it ends at the border of the image."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = max(rows[0] - margin, 0), max(columns[0] - margin, 0)
    return slice(top, rows[-1] + margin + 1), slice(left, columns[-1] + margin + 1)


def median_change(before: Pixels, after: Pixels, mask: Mask, radius: int = 5) -> Field:
    """Return the median of the mean absolute change in a disk, [H, W] in grey levels; the change outside is 0.

    Only the surroundings of the mask are filtered. Pixels outside of the image are those of its border.
    """
    smoothed = np.zeros(mask.shape)
    if not mask.any():
        return smoothed
    area = surroundings(mask, radius)
    change = np.where(mask[area], summed_change(before[area], after[area]), 0).astype(np.uint16)
    padded = np.pad(change, radius, mode="edge")
    smoothed[area] = rank_median(padded, disk(radius))[radius:-radius, radius:-radius] / 3
    return smoothed
