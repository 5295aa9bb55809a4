"""Augmented views of an image: random crop, flips, colour jitter, greyscale and blur.

All parameters are drawn from a numpy generator, in a fixed order; torchvision applies them. So a view follows from the
image and the generator, and no global random state is used or changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from anoframe.errors import AnoframeError, suggest
from anoframe.models.learner import ImageSource
from anoframe.registry import check_arguments

_CROP_ATTEMPTS = 10  # as torchvision's RandomResizedCrop; then the whole image, cut to the allowed aspect ratio


@dataclass(frozen=True)
class ViewSettings:
    """Distribution of views.

    Attributes:
        size: side of a view in pixels.
        scale: bounds of the share of the image's area that a crop covers.
        ratio: bounds of a crop's width / height.
        flip, vertical_flip: probabilities of a horizontal and a vertical flip.
        jitter: largest changes of brightness, contrast, saturation and hue; see torchvision's ColorJitter.
        jitter_p: probability of the colour jitter.
        gray_p: probability of greyscale.
        blur_p: probability of a Gaussian blur, with a kernel of a tenth of the side.
        blur_sigma: bounds of its standard deviation in pixels.
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    vertical_flip: float = 0.0
    jitter: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2)
    jitter_p: float = 0.8
    gray_p: float = 0.2
    blur_p: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        if self.size < 8:
            raise AnoframeError(f"views.size must be 8 pixels or more, got {self.size}")
        for name in ("flip", "vertical_flip", "jitter_p", "gray_p", "blur_p"):
            if not 0 <= getattr(self, name) <= 1:
                raise AnoframeError(f"views.{name} is a probability in [0, 1], got {getattr(self, name)}")
        for name, low, high in (("scale", 0, 1), ("ratio", 0, math.inf), ("blur_sigma", 0, math.inf)):
            value = getattr(self, name)
            if len(value) != 2 or not low < value[0] <= value[1] <= high:
                raise AnoframeError(f"views.{name} takes two rising numbers in ({low}, {high}], got {value}")
        if len(self.jitter) != 4 or min(self.jitter) < 0 or self.jitter[3] > 0.5:
            raise AnoframeError(
                "views.jitter takes four numbers of 0 or more (brightness, contrast, saturation, hue up to 0.5), got "
                f"{self.jitter}"
            )


PRESETS: Mapping[str, Mapping[str, Any]] = {
    # SimCLR, Chen et al., ICML 2020, appendix A, with the jitter of strength 1
    "paper": {},
    # for products in a fixed position: no flip, larger crops, weaker colours
    "industrial": {"scale": (0.5, 1.0), "flip": 0.0, "jitter": (0.4, 0.4, 0.4, 0.1)},
}


def view_settings(section: Mapping[str, Any]) -> ViewSettings:
    """Return the settings of a config section: a preset, with the keys that are not None in its place.

    Raises:
        AnoframeError: unknown preset or key, or a value out of its range.
    """
    values = {key: value for key, value in section.items() if value is not None}
    preset = values.pop("preset", "paper")
    if preset not in PRESETS:
        raise AnoframeError(f"unknown views.preset {preset!r}: {suggest(str(preset), PRESETS)}")
    merged = {**PRESETS[preset], **values}
    merged = {key: tuple(value) if isinstance(value, list) else value for key, value in merged.items()}
    check_arguments(ViewSettings, merged, "views")
    return ViewSettings(**merged)


class AugmentedViews:
    """Draws augmented views of an image (`anoframe.models.learner.Views`).

    Args:
        settings: of the views.
        names: of the views, which are drawn one after another.
    """

    def __init__(self, settings: ViewSettings, names: Sequence[str] = ("first", "second")):
        self.settings, self._names = settings, tuple(names)

    def __call__(self, images: ImageSource, row: int, rng: np.random.Generator) -> Mapping[str, Tensor]:
        pixels = images.pixels(row)
        return {name: draw_view(pixels, self.settings, rng) for name in self._names}


def draw_view(pixels: Tensor, settings: ViewSettings, rng: np.random.Generator) -> Tensor:
    """Draw a view of an image.

    Args:
        pixels: uint8 `[3, H, W]`, not changed.
        settings: of the view.
        rng: the only source of randomness.

    Returns:
        uint8 `[3, size, size]`.
    """
    top, left, height, width = draw_crop(rng, pixels.shape[-2:], settings.scale, settings.ratio)
    view = resize(pixels[:, top : top + height, left : left + width], settings.size).float() / 255
    if rng.random() < settings.flip:
        view = tv.hflip(view)
    if rng.random() < settings.vertical_flip:
        view = tv.vflip(view)
    if rng.random() < settings.jitter_p:
        view = jitter_colors(view, settings.jitter, rng)
    if rng.random() < settings.gray_p:
        view = tv.rgb_to_grayscale(view, 3)
    if rng.random() < settings.blur_p:
        view = blur(view, float(rng.uniform(*settings.blur_sigma)))
    return (view * 255).round().clamp(0, 255).to(torch.uint8)


def draw_crop(
    rng: np.random.Generator, size: Sequence[int], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Draw top, left, height and width of a crop, by the rule of torchvision's RandomResizedCrop.

    Args:
        size: height and width of the image.
        scale: bounds of the share of its area (uniform).
        ratio: bounds of width / height (log-uniform).
    """
    height, width = size
    for _ in range(_CROP_ATTEMPTS):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    w, h = min(width, round(height * ratio[1])), min(height, round(width / ratio[0]))
    return (height - h) // 2, (width - w) // 2, h, w


def resize(pixels: Tensor, size: int) -> Tensor:
    """Resize uint8 pixels to a square, bilinear with antialiasing."""
    if pixels.shape[-2:] == (size, size):
        return pixels
    resized: Tensor = tv.resize(pixels, [size, size], InterpolationMode.BILINEAR, antialias=True)
    return resized


def jitter_colors(view: Tensor, amounts: Sequence[float], rng: np.random.Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue of a float image in [0, 1], in a drawn order."""
    factors = [float(rng.uniform(max(0.0, 1 - amount), 1 + amount)) for amount in amounts[:3]]
    shift = float(rng.uniform(-amounts[3], amounts[3]))
    for number in rng.permutation(4):
        if not amounts[number]:
            continue
        if number == 0:
            view = tv.adjust_brightness(view, factors[0])
        elif number == 1:
            view = tv.adjust_contrast(view, factors[1])
        elif number == 2:
            view = tv.adjust_saturation(view, factors[2])
        else:
            view = tv.adjust_hue(view, shift)
    return view


def blur(view: Tensor, sigma: float) -> Tensor:
    """Blur with a Gaussian whose kernel is a tenth of the side, odd and at least 3 pixels: rows, then columns."""
    kernel = max(3, 2 * (round(0.1 * view.shape[-1]) // 2) + 1)
    rows = tv.gaussian_blur(view, [kernel, 1], [sigma, sigma])
    blurred: Tensor = tv.gaussian_blur(rows, [1, kernel], [sigma, sigma])
    return blurred
