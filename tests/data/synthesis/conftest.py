"""Drawn images for generators of synthetic anomalies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter


def draw_texture(seed: int, height: int = 96, width: int = 96) -> np.ndarray:
    """A smooth coloured texture, uint8 [H, W, 3]."""
    noise = np.random.default_rng(seed).standard_normal((height, width, 3))
    return np.rint(127 + 250 * gaussian_filter(noise, (2, 2, 0))).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def textures() -> list[np.ndarray]:
    """Four textures of 96 x 96 pixels. Read-only."""
    images = [draw_texture(seed) for seed in range(4)]
    for image in images:
        image.setflags(write=False)
    return images


@pytest.fixture(scope="session")
def texture_256() -> np.ndarray:
    """A texture of 256 x 256 pixels. Read-only."""
    image = draw_texture(7, 256, 256)
    image.setflags(write=False)
    return image


@pytest.fixture(scope="session")
def objects() -> list[np.ndarray]:
    """Four dark textured discs on a bright background of 200, 128 x 128 pixels. Read-only."""
    y, x = np.mgrid[:128, :128] - 63.5
    inside = np.hypot(y, x)[..., None] < 40
    images = [np.where(inside, draw_texture(seed, 128, 128) // 3, 200).astype(np.uint8) for seed in range(4)]
    for image in images:
        image.setflags(write=False)
    return images
