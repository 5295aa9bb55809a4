"""The ten operators that DRAEM changes textures with, and the choice of three of them.

The ranges are those of the official code (Zavrtanik et al., ICCV 2021), which uses imgaug; pixels are not equal to its.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from anoframe.data.synthesis.base import Pixels
from anoframe.data.synthesis.color import shift_hue

Operator = Callable[[Image.Image, np.random.Generator], Image.Image]
PER_IMAGE = 3


def gamma_contrast(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Raise each channel to a power in [0.5, 2]."""
    levels = np.arange(256) / 255
    table = [level for gamma in rng.uniform(0.5, 2.0, 3) for level in np.rint(255 * levels**gamma).astype(int).tolist()]
    return image.point(table)


def brightness(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Multiply the luma by a factor in [0.8, 1.2] and add -30 to 30, in random order."""
    factor, offset = rng.uniform(0.8, 1.2), rng.uniform(-30, 30)
    offset *= factor if rng.random() < 0.5 else 1
    table = np.rint(np.arange(256) * factor + offset).clip(0, 255).astype(int).tolist()
    luma, blue, red = image.convert("YCbCr").split()
    return Image.merge("YCbCr", (luma.point(table), blue, red)).convert("RGB")


def sharpness(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Blur or sharpen by a factor in [0.1, 1.9]; 1 changes nothing."""
    return ImageEnhance.Sharpness(image).enhance(float(rng.uniform(0.1, 1.9)))


def hue_saturation(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Add -50 to 50 to the hue (of 255 levels) and, independently, to the saturation."""
    return shift_hue(image, *(int(value) for value in rng.integers(-50, 51, 2)))


def solarize(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Invert the levels from a threshold in [32, 128] upwards, with probability 1/2."""
    threshold = int(rng.integers(32, 129))
    return ImageOps.solarize(image, threshold) if rng.random() < 0.5 else image


def posterize(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Keep 1 to 8 bits of each channel."""
    return ImageOps.posterize(image, int(rng.integers(1, 9)))


def invert(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Invert all levels."""
    return ImageOps.invert(image)


def autocontrast(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Stretch the contrast after cutting off 0 to 20 % of the pixels at each end."""
    return ImageOps.autocontrast(image, cutoff=int(rng.integers(0, 21)))


def equalize(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Equalise the histogram of each channel."""
    return ImageOps.equalize(image)


def rotate(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Rotate by -45 to 45 degrees; the corners are black."""
    return image.rotate(float(rng.uniform(-45, 45)), Image.Resampling.BILINEAR)


OPERATORS: dict[str, Operator] = {
    operator.__name__: operator
    for operator in (
        gamma_contrast,
        brightness,
        sharpness,
        hue_saturation,
        solarize,
        posterize,
        invert,
        autocontrast,
        equalize,
        rotate,
    )
}


def change_texture(image: Pixels, rng: np.random.Generator) -> tuple[Pixels, list[str]]:
    """Apply three different operators in random order, and return the result with their names."""
    names = [str(name) for name in rng.choice(list(OPERATORS), PER_IMAGE, replace=False)]
    picture = Image.fromarray(np.ascontiguousarray(image))
    for name in names:
        picture = OPERATORS[name](picture, rng)
    return np.asarray(picture), names
