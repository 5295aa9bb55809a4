"""The way from a preprocessed image back to its photograph: for anomaly maps, points and boxes.

Loads NumPy and Pillow alone. A photograph has two frames: *upright*, as it is shown, and *stored*, the pixels in its
file before EXIF orientation turns them. Without an EXIF orientation both are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anoframe.data.preprocessing import Preprocessing

Map = NDArray[np.float32]
BAND = 256  # rows of a photograph that are restored at a time


class _Axis(NamedTuple):
    """Places of the pixels of one axis of a photograph on an axis of its map; arrays [length]."""

    before: NDArray[np.int64]  # the map pixel before
    after: NDArray[np.int64]  # the next one, or the same at the end
    share: Map  # of the next one
    inside: NDArray[np.bool_]  # whether the map covers the pixel

    def backwards(self) -> _Axis:
        """Return the places from the last pixel to the first."""
        return _Axis(self.before[::-1], self.after[::-1], self.share[::-1], self.inside[::-1])


@dataclass(frozen=True)
class Frame:
    """Where a preprocessed image lies on its photograph.

    Args:
        preprocessing: of the image.
        width, height: of the upright photograph.
        orientation: EXIF orientation of its file, 1 to 8; results are in the stored frame. 1: in the upright frame.
    """

    preprocessing: Preprocessing
    width: int
    height: int
    orientation: int = 1

    @property
    def is_sideways(self) -> bool:
        """Whether the orientation exchanges width and height."""
        return self.orientation >= 5

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the photograph in the frame of the results."""
        return (self.width, self.height) if self.is_sideways else (self.height, self.width)

    def restore(self, anomaly_map: Map) -> Map:
        """Resize a map [H, W] to the photograph, bilinear, with every pixel at the place that it was computed for.

        Returns:
            array: float32 of `size`; -inf where the photograph was cut off by the crop and has no value. Where nothing
                is cut off or padded, it is torch's `interpolate` with `align_corners=False`.
        """
        restored = np.empty(self.size, np.float32)
        for start, rows in self.bands(anomaly_map):
            restored[start : start + len(rows)] = rows
        return restored

    def bands(self, anomaly_map: Map, band: int = BAND) -> Iterator[tuple[int, Map]]:
        """Yield the rows of `restore` in bands: (first row, float32 [band, width]). Memory: a few bands."""
        rows, columns = self._axes()
        stored = anomaly_map.T if self.is_sideways else anomaly_map
        for start in range(0, self.size[0], band):
            part = slice(start, start + band)
            mixed = _mix(stored[rows.before[part]], stored[rows.after[part]], rows.share[part, None])
            values: Map = _mix(mixed[:, columns.before], mixed[:, columns.after], columns.share)
            values[~rows.inside[part]] = -np.inf
            values[:, ~columns.inside] = -np.inf
            yield start, values

    def to_stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """Turn an array [H, W, ...] of the upright photograph to the frame of the results."""
        rows, columns = self._reversed()
        turned = values[:: -1 if rows else 1, :: -1 if columns else 1]
        return turned.swapaxes(0, 1) if self.is_sideways else turned

    def point(self, row: float, column: float) -> tuple[float, float]:
        """Return the row and column on the photograph of a place on the preprocessed image.

        Coordinates count from the outer edge of the first pixel: its centre is 0.5.
        """
        resized = self.preprocessing.resized_size(self.width, self.height)
        top, left = self.preprocessing.origin(*resized)
        upright = (row + top) * self.height / resized[1], (column + left) * self.width / resized[0]
        lengths = self.height, self.width
        turned = [
            lengths[axis] - upright[axis] if reversed_ else upright[axis]
            for axis, reversed_ in enumerate(self._reversed())
        ]
        return (turned[1], turned[0]) if self.is_sideways else (turned[0], turned[1])

    def _reversed(self) -> tuple[bool, bool]:
        """Return whether the stored frame runs against the rows and against the columns of the upright one."""
        return self.orientation in (3, 4, 7, 8), self.orientation in (2, 3, 6, 7)

    def _axes(self) -> tuple[_Axis, _Axis]:
        """Return the places of the rows and of the columns of the photograph, in the frame of the results."""
        resized_width, resized_height = self.preprocessing.resized_size(self.width, self.height)
        top, left = self.preprocessing.origin(resized_width, resized_height)
        height, width = self.preprocessing.size
        rows = _places(self.height, resized_height, top, height)
        columns = _places(self.width, resized_width, left, width)
        rows, columns = (
            axis.backwards() if is_backwards else axis
            for axis, is_backwards in zip((rows, columns), self._reversed(), strict=True)
        )
        return (columns, rows) if self.is_sideways else (rows, columns)


def _places(length: int, resized: int, origin: int, side: int) -> _Axis:
    """Place the pixels of one axis of a photograph on the same axis of its map.

    Args:
        length: of the photograph.
        resized: its length after resizing.
        origin: pixel of the resized image at which the map begins; negative with padding.
        side: length of the map.
    """
    places = (np.arange(length) + 0.5) * resized / length - origin
    inside = (places >= 0) & (places <= side)
    # values of padding are not of the photograph, and are not mixed into it
    clipped = np.clip(places - 0.5, max(0, -origin), min(side, resized - origin) - 1)
    before = clipped.astype(np.int64)
    last = min(side, resized - origin) - 1
    return _Axis(before, np.minimum(before + 1, last), (clipped - before).astype(np.float32), inside)


def _mix(first: Map, second: Map, share: Map) -> Map:
    """Interpolate; in place, because the arrays are large."""
    second -= first
    second *= share
    second += first
    return second
