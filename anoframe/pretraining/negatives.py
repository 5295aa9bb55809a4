"""Views with a synthetic defect as the negative, for losses that must notice small local changes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from anoframe.data.synthesis.base import Generator
from anoframe.models.components.synthetic_views import SyntheticDefects
from anoframe.models.learner import ImageSource
from anoframe.pretraining.views import resize


class SyntheticNegative:
    """Draws the image as it is and with a synthetic defect; both resized only (`anoframe.models.learner.Views`).

    Args:
        generator: makes the defects; it is asked for one that changes the image.
        size: side in pixels.
    """

    def __init__(self, generator: Generator, size: int):
        self._defects, self._size = SyntheticDefects(generator.as_negative()), size

    def __call__(self, images: ImageSource, row: int, rng: np.random.Generator) -> Mapping[str, Tensor]:
        defective = self._defects(images, row, rng)["image"]
        return {"anchor": resize(images.pixels(row), self._size), "negative": resize(defective, self._size)}


class OtherImage:
    """Draws the image and another image of the data as the negative, both resized only."""

    def __init__(self, size: int):
        self._size = size

    def __call__(self, images: ImageSource, row: int, rng: np.random.Generator) -> Mapping[str, Tensor]:
        other = (row + 1 + int(rng.integers(max(1, len(images) - 1)))) % len(images)
        return {
            "anchor": resize(images.pixels(row), self._size),
            "negative": resize(images.pixels(other), self._size),
        }
