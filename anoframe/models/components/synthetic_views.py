"""Views of training images with synthetic defects, for phases that learn from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anoframe.data.synthesis.base import Context, Generator
from anoframe.models.learner import ImageSource


class SyntheticDefects:
    """Draws a training image with a synthetic defect and its mask (`anoframe.models.learner.Views`).

    The views are `image`, uint8 `[3, H, W]`, and `mask`, bool `[H, W]`. Where the generator takes parts of other
    images, these are normal images of the same category.

    Args:
        generator: makes the defects.
    """

    def __init__(self, generator: Generator):
        self._generator = generator
        self._rows: dict[str, list[int]] = {}  # category -> rows, of the image source below
        self._source: ImageSource | None = None

    def __call__(self, images: ImageSource, row: int, rng: np.random.Generator) -> Mapping[str, Tensor]:
        category = images.sample(row).category
        rows = self._rows_of(images, category)
        context = Context(category, _Pixels(images, rows), rows.index(row) if row in rows else None)
        made = self._generator.generate(_pixels(images, row), rng, context)
        pixels = torch.from_numpy(np.ascontiguousarray(made.image.transpose(2, 0, 1)))
        return {"image": pixels, "mask": torch.from_numpy(made.mask)}

    def _rows_of(self, images: ImageSource, category: str) -> list[int]:
        """Rows of the normal images of a category; found once per image source."""
        if self._source is not images:
            self._source, self._rows = images, {}
            for row in range(len(images)):
                sample = images.sample(row)
                if not sample.is_defect:
                    self._rows.setdefault(sample.category, []).append(row)
        return self._rows.get(category, [])


class _Pixels(Sequence[NDArray[np.uint8]]):
    """Some rows of an image source as arrays [H, W, 3], read on demand."""

    def __init__(self, images: ImageSource, rows: Sequence[int]):
        self._images, self._rows = images, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position):  # type: ignore[no-untyped-def]
        return _pixels(self._images, self._rows[position])

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[position] for position in range(len(self)))


def _pixels(images: ImageSource, row: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(images.pixels(row).permute(1, 2, 0).numpy())
