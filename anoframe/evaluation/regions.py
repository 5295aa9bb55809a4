"""Regions of an anomaly map above a threshold, as boxes with area and peak. Loads NumPy alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Region:
    """Connected pixels (8 neighbours) with a map value at or above a threshold.

    Attributes:
        x, y: column and row of the upper left pixel of the box.
        width, height: of the box, in pixels.
        area: number of pixels.
        peak_x, peak_y: first pixel, row by row, with the largest value.
        peak: that value.
    """

    x: int
    y: int
    width: int
    height: int
    area: int
    peak_x: int
    peak_y: int
    peak: float

    def to_json(self) -> dict[str, Any]:
        """Return the region as JSON types."""
        return asdict(self)


class RegionFinder:
    """Finds the regions of a map that arrives in bands of rows. Memory: one band, and the runs of marked pixels.

    Args:
        threshold: a pixel with this value or a higher one is marked; NaN is not.
    """

    def __init__(self, threshold: float):
        self._threshold = threshold
        self._parents: list[int] = []  # union-find over regions
        self._regions: list[list[Any]] = []  # x0, y0, x1, y1, area, peak, peak_x, peak_y; ends excluded
        self._above: list[tuple[int, int, int]] = []  # runs of the row before: first, last, region
        self._row = 0

    def add(self, values: Map) -> None:
        """Add the next rows of the map, [h, W]."""
        marked = values >= np.float32(self._threshold)
        for row in range(len(values)):
            runs = _runs(marked[row]) if marked[row].any() else []
            self._above = [(first, last, self._add_run(values[row], first, last)) for first, last in runs]
            self._row += 1

    def regions(self) -> list[Region]:
        """Return the regions, largest peak first."""
        joined: dict[int, list[Any]] = {}
        for index, values in enumerate(self._regions):
            root = self._root(index)
            joined[root] = _join(joined[root], values) if root in joined else values
        found = [
            Region(x0, y0, x1 - x0, y1 - y0, area, peak_x, peak_y, peak)
            for x0, y0, x1, y1, area, peak, peak_x, peak_y in joined.values()
        ]
        return sorted(found, key=lambda region: (-region.peak, region.y, region.x))

    def _add_run(self, values: Map, first: int, last: int) -> int:
        """Add a run of marked pixels of the current row, and return its region."""
        peak = first + int(values[first : last + 1].argmax())
        index = len(self._parents)
        self._parents.append(index)
        self._regions.append(
            [first, self._row, last + 1, self._row + 1, last + 1 - first, float(values[peak]), peak, self._row]
        )
        for above_first, above_last, region in self._above:
            if above_first <= last + 1 and above_last >= first - 1:  # corners touch as well
                self._parents[self._root(index)] = self._root(region)
        return index

    def _root(self, index: int) -> int:
        while self._parents[index] != index:
            self._parents[index] = self._parents[self._parents[index]]
            index = self._parents[index]
        return index


def find_regions(bands: Iterable[Map], threshold: float) -> list[Region]:
    """Return the regions of a map at or above a threshold, largest peak first.

    Args:
        bands: the rows of the map from top to bottom, in arrays [h, W].
        threshold: a pixel threshold.

    >>> find_regions([np.float32([[0, 5, 0], [4, 0, 0]])], 4.0)
    [Region(x=0, y=0, width=2, height=2, area=2, peak_x=1, peak_y=0, peak=5.0)]
    """
    finder = RegionFinder(threshold)
    for band in bands:
        finder.add(band)
    return finder.regions()


def _runs(marked: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return first and last pixel of each run of a row."""
    edges = np.flatnonzero(np.diff(marked.astype(np.int8), prepend=0, append=0))
    return [(int(first), int(end) - 1) for first, end in zip(edges[::2], edges[1::2], strict=True)]


def _join(first: list[Any], second: list[Any]) -> list[Any]:
    x0, y0, x1, y1, area, *peak = first
    other_x0, other_y0, other_x1, other_y1, other_area, *other_peak = second
    is_first = (-peak[0], peak[2], peak[1]) <= (-other_peak[0], other_peak[2], other_peak[1])
    corners = [min(x0, other_x0), min(y0, other_y0), max(x1, other_x1), max(y1, other_y1)]
    return [*corners, area + other_area, *(peak if is_first else other_peak)]
