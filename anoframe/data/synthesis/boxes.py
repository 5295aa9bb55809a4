"""Rectangles in an image: their size, their place, and the pixels in them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from anoframe.data.synthesis.base import Mask


class Box(NamedTuple):
    """A rectangle of whole pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def area(self) -> int:
        return self.height * self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of its pixels in an array [H, W, ...]."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def clipped(self, shape: tuple[int, ...]) -> Box:
        """Return the part inside an image of shape [H, W, ...]."""
        top, left = max(self.top, 0), max(self.left, 0)
        bottom, right = min(self.top + self.height, shape[0]), min(self.left + self.width, shape[1])
        return Box(top, left, max(bottom - top, 0), max(right - left, 0))

    def mask(self, shape: tuple[int, ...]) -> Mask:
        """Return a mask [H, W] that is True inside the box."""
        mask = np.zeros(shape[:2], bool)
        mask[self.slices] = True
        return mask


def place_box(rng: np.random.Generator, height: int, width: int, shape: tuple[int, ...]) -> Box:
    """Draw a uniform place for a box inside an image of shape [H, W, ...]."""
    top = int(rng.integers(shape[0] - height + 1))
    return Box(top, int(rng.integers(shape[1] - width + 1)), height, width)


def draw_size(
    rng: np.random.Generator, shape: tuple[int, ...], area: tuple[float, float], aspect: tuple[float, float]
) -> tuple[int, int]:
    """Draw height and width of a box from its share of the image and its aspect ratio.

    Args:
        rng: random generator.
        shape: of the image, [H, W, ...].
        area: bounds of the uniform share of the image area.
        aspect: bounds of width / height, which is log-uniform.

    Returns:
        Rounded sides, at least 1 pixel and at most those of the image.
    """
    pixels = rng.uniform(*area) * shape[0] * shape[1]
    ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
    height, width = round(math.sqrt(pixels / ratio)), round(math.sqrt(pixels * ratio))
    return min(max(height, 1), shape[0]), min(max(width, 1), shape[1])
