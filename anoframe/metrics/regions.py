"""Connected regions of anomalous pixels in masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anoframe.metrics.array_checks import Labels

EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


def region_weights(masks: Labels) -> NDArray[np.float64]:
    """Compute 1 / (area of its region) for each anomalous pixel, in the order of `masks[masks]`. [P]

    With these weights, the share of positives above a threshold is the overlap averaged over regions.

    Args:
        masks: [n, H, W].
    """
    weights = [inverse_areas(mask) for mask in masks if mask.any()]
    return np.concatenate(weights) if weights else np.empty(0)


def inverse_areas(mask: Labels) -> NDArray[np.float64]:
    """Compute 1 / (area of its 8-connected region) for each anomalous pixel of one mask [H, W]."""
    from scipy import ndimage  # here: it takes longer to import than the score of one image

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    mask = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # empty pixels would cost labelling time
    regions, _ = ndimage.label(mask, structure=EIGHT_CONNECTED)
    region = regions[mask]
    return 1.0 / np.bincount(region)[region]
