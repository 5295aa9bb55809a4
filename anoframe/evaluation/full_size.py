"""Anomaly maps at the size of the original photographs, which sPRO is defined on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anoframe.data.preprocessing import Preprocessing

Map = NDArray[np.float32]


def restore_size(anomaly_map: Map, size: tuple[int, int], preprocessing: Preprocessing) -> Map:
    """Resize an anomaly map to its photograph, bilinear, with every pixel at the place that it was computed for.

    Pixels of the photograph that the crop has cut off have no score: they get -inf, the rank of the most normal ones.

    Args:
        anomaly_map: [crop, crop].
        size: height and width of the photograph.
        preprocessing: with which the map was computed.

    Returns:
        array: float32 [H, W]; where the crop cuts nothing off, it is that of torch's `interpolate` with
            `align_corners=False`.
    """
    height, width = size
    resized_width, resized_height = preprocessing.resized_size(width, height)
    rows, row_shares, rows_inside = _positions(height, resized_height, preprocessing.crop)
    columns, column_shares, columns_inside = _positions(width, resized_width, preprocessing.crop)
    tall = _mix(anomaly_map[rows], anomaly_map[rows + 1 - (rows == preprocessing.crop - 1)], row_shares[:, None])
    after = columns + 1 - (columns == preprocessing.crop - 1)
    restored: Map = _mix(tall[:, columns], tall[:, after], column_shares)
    restored[~rows_inside] = -np.inf
    restored[:, ~columns_inside] = -np.inf
    return restored


def _positions(length: int, resized: int, crop: int) -> tuple[NDArray[np.int64], Map, NDArray[np.bool_]]:
    """Place the pixels of one axis of a photograph on the same axis of its map.

    Returns:
        tuple: the map pixel before each, the share of the next one, whether the map covers the pixel; [length] each.
    """
    offset = round((resized - crop) / 2)  # as `Preprocessing.resize_and_crop`
    places = (np.arange(length) + 0.5) * resized / length - offset
    inside = (places >= 0) & (places <= crop)
    clipped = np.clip(places - 0.5, 0, crop - 1)
    before = clipped.astype(np.int64)
    return before, (clipped - before).astype(np.float32), inside


def _mix(first: Map, second: Map, share: Map) -> Map:
    """Interpolate; in place, because the arrays are large."""
    second -= first
    second *= share
    second += first
    return second
