"""Colour jitter of a patch: brightness, contrast, saturation and hue, with the rules of torchvision's ColorJitter."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageEnhance

from anoframe.data.synthesis.base import Pixels


def jitter_colors(image: Pixels, rng: np.random.Generator, amount: float) -> Pixels:
    """Change brightness, contrast and saturation by factors in [1 - amount, 1 + amount], and shift the hue.

    The hue is shifted by up to `amount` of the colour circle. The four changes are made in random order; with amount 0
    the image is returned as it is.

    Args:
        image: uint8 [H, W, 3].
        rng: random generator.
        amount: 0 to 0.5.
    """
    if amount == 0:
        return image
    picture = Image.fromarray(np.ascontiguousarray(image))
    factors = rng.uniform(1 - amount, 1 + amount, 3)
    shift = round(rng.uniform(-amount, amount) * 255)
    for change in rng.permutation(4):
        if change == 3:
            picture = shift_hue(picture, shift)
        else:
            enhance = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[change]
            picture = enhance(picture).enhance(float(factors[change]))
    return np.asarray(picture)


def shift_hue(picture: Image.Image, hue: int, saturation: int = 0) -> Image.Image:
    """Add to the hue (255 is the whole colour circle) and to the saturation (0 to 255, clipped) of an RGB image."""
    if hue == 0 and saturation == 0:
        return picture
    hues, saturations, values = picture.convert("HSV").split()
    hues = hues.point([(level + hue) % 256 for level in range(256)])
    saturations = saturations.point([min(max(level + saturation, 0), 255) for level in range(256)])
    return Image.merge("HSV", (hues, saturations, values)).convert("RGB")
