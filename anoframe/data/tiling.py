"""Tiles of a preprocessed image: where they lie, and how values of tiles become values of the image again.

A detector never knows of tiles: each is an image to it, in training and in prediction.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anoframe.data.preprocessing import check_size, height_width, size_text
from anoframe.errors import AnoframeError
from anoframe.types import Sample


class Window(NamedTuple):
    """A tile of an image: its upper left pixel, and its size."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the tile."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True)
class TileSample(Sample):
    """A tile of a labelled image. The label is that of the image.

    Attributes:
        tile: index of the tile in `Tiling.windows`.
    """

    tile: int = 0

    @property
    def whole(self) -> Sample:
        """The image of the tile."""
        return Sample(**{field.name: getattr(self, field.name) for field in fields(Sample)})


@dataclass(frozen=True)
class Tiling:
    """Cut images into tiles of one size, spread evenly, and blend the values of tiles where they overlap.

    Args:
        tile: size of a tile, one number for a square or (height, width).
        overlap: pixels that neighbouring tiles share at least. Tiles share more where they would otherwise not end
            with the image.

    Raises:
        AnoframeError: a size is not positive, or the overlap is not smaller than a tile.
    """

    tile: int | tuple[int, int]
    overlap: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "tile", check_size(self.tile, "data.tile"))
        if not 0 <= self.overlap < min(self.size):
            raise AnoframeError(
                f"data.tile_overlap is from 0 to {min(self.size) - 1} pixels, less than data.tile {self.tile}, got "
                f"{self.overlap}"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a tile."""
        return height_width(self.tile)

    def settings(self) -> dict[str, Any]:
        """Return the arguments as JSON types."""
        return {"tile": self.tile if isinstance(self.tile, int) else list(self.tile), "overlap": self.overlap}

    def check(self, size: tuple[int, int]) -> None:
        """Raise AnoframeError if images of this height and width are smaller than a tile."""
        if any(tile > side for tile, side in zip(self.size, size, strict=True)):
            raise AnoframeError(
                f"data.tile {size_text(self.size)} is larger than the images, {size_text(size)} (data.crop): lower "
                "data.tile, or raise data.resize and data.crop"
            )

    def windows(self, size: tuple[int, int]) -> list[Window]:
        """List the tiles of an image of this height and width, row by row."""
        starts = (_starts(length, tile, self.overlap) for length, tile in zip(size, self.size, strict=True))
        return [Window(top, left, *self.size) for top, left in product(*starts)]

    def weights(self, size: tuple[int, int]) -> list[NDArray[np.float32]]:
        """Return the weight [h, w] of each pixel of each tile; over all tiles they add up to 1 at each pixel.

        The weight falls linearly over the overlap with a neighbour. It is exactly 1 where a tile is alone.
        """
        axes = [
            _axis_weights(length, tile, _starts(length, tile, self.overlap))
            for length, tile in zip(size, self.size, strict=True)
        ]
        return [np.outer(rows, columns).astype(np.float32) for rows, columns in product(*axes)]


def cut_samples(samples: list[Sample], tiles: int) -> list[Sample]:
    """List every tile of every sample; the samples themselves if an image is a single tile."""
    if tiles == 1:
        return samples
    values = ({field.name: getattr(sample, field.name) for field in fields(Sample)} for sample in samples)
    return [TileSample(**of_sample, tile=tile) for of_sample in values for tile in range(tiles)]


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Spread the fewest tiles that overlap by `overlap` or more over an axis, from its first to its last pixel."""
    if tile >= length:
        return [0]
    count = -(-(length - overlap) // (tile - overlap))
    return [round(index * (length - tile) / (count - 1)) for index in range(count)]


def _axis_weights(length: int, tile: int, starts: list[int]) -> list[NDArray[np.float64]]:
    """Return the weight of each pixel of each tile along one axis."""
    ramps = [np.ones(tile) for _ in starts]
    for first, second, start, following in zip(ramps, ramps[1:], starts, starts[1:], strict=False):
        shared = start + tile - following
        rising = (np.arange(shared) + 0.5) / max(shared, 1)
        second[:shared] *= rising
        first[tile - shared :] *= rising[::-1]
    total = np.zeros(length)
    for ramp, start in zip(ramps, starts, strict=True):
        total[start : start + tile] += ramp
    return [ramp / total[start : start + tile] for ramp, start in zip(ramps, starts, strict=True)]
