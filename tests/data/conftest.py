"""Small datasets that tests can damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def picture() -> Callable[..., Path]:
    """Return a function that writes a small RGB noise image, a different one for each seed."""

    def write(path: Path, seed: int = 0, size: tuple[int, int] = (24, 16)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        width, height = size
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def drawn_mask() -> Callable[..., Path]:
    """Return a function that writes a mask with a small square of defect pixels."""

    def write(path: Path, size: tuple[int, int] = (24, 16), value: int = 255) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        mask = Image.new("L", size)
        mask.paste(value, (4, 4, 10, 10))
        mask.save(path)
        return path

    return write


@pytest.fixture
def category(picture, drawn_mask) -> Callable[..., Path]:
    """Return a function that writes a valid category in the layout of MVTec AD.

    It has 3 training images, 2 good test images, and 2 `crack` and 2 `hole` images with masks.
    """

    def write(folder: Path, suffix: str = ".png") -> Path:
        for number in range(3):
            picture(folder / f"train/good/{number:03d}{suffix}", seed=number)
        for number in range(2):
            picture(folder / f"test/good/{number:03d}{suffix}", seed=10 + number)
            for seed, defect in ((20, "crack"), (30, "hole")):
                picture(folder / f"test/{defect}/{number:03d}{suffix}", seed=seed + number)
                drawn_mask(folder / f"ground_truth/{defect}/{number:03d}_mask.png")
        return folder

    return write
