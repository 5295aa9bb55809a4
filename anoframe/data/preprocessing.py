"""Resizing and cropping of images to the square input of a backbone.

The rules are those of torchvision's Resize and CenterCrop on a Pillow image, equal to the bit, so that published
settings give the same pixels here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anoframe.errors import AnoframeError

INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_MAX_SIDE = 16384  # pixels: more than any network uses, and its square still fits into memory


@dataclass(frozen=True)
class Preprocessing:
    """Settings of resize and centre crop.

    Args:
        resize: length in pixels of the shorter side after resizing (of both sides without `keep_aspect`).
        crop: side in pixels of the centre square that is kept, at most `resize`.
        keep_aspect: False resizes the image to `resize` x `resize`, so that all of it is kept if `crop` is the same.
        jpeg_draft: decode a JPEG at 1/2, 1/4 or 1/8 of its size if no side becomes shorter than `resize`: faster for
            large images, with slightly different pixels.
        interpolation: of the resizing, `"bilinear"` or `"bicubic"` (as CLIP was trained); both with antialiasing.

    Raises:
        AnoframeError: a size is not a whole number from 1 to 16,384, the crop is larger than the resize, or the
            interpolation is unknown.
    """

    resize: int
    crop: int
    keep_aspect: bool = True
    jpeg_draft: bool = False
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        for name in ("resize", "crop"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise AnoframeError(f"preprocessing: {name} must be a positive whole number of pixels, got {value!r}")
            if value > _MAX_SIDE:
                raise AnoframeError(f"preprocessing: {name} {value} is larger than {_MAX_SIDE} pixels; lower it")
        if self.interpolation not in INTERPOLATIONS:
            raise AnoframeError(
                f"preprocessing: interpolation is one of {', '.join(INTERPOLATIONS)}, got {self.interpolation!r}"
            )
        if self.crop > self.resize:
            raise AnoframeError(
                f"preprocessing: crop {self.crop} is larger than resize {self.resize}; lower crop or raise resize"
            )

    def resize_and_crop(self, image: Image.Image, full_size: tuple[int, int] | None = None) -> Image.Image:
        """Resize a Pillow image and keep the centre square.

        Args:
            image: of any size and mode.
            full_size: width and height of the original if `image` was decoded at a reduced size.
        """
        width, height = self.resized_size(*(full_size or image.size))
        left, top = round((width - self.crop) / 2), round((height - self.crop) / 2)
        resized = image.resize((width, height), INTERPOLATIONS[self.interpolation])
        return resized.crop((left, top, left + self.crop, top + self.crop))

    def to_array(self, image: Image.Image, full_size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Resize and crop an RGB image to a uint8 array [crop, crop, 3]; `full_size` as in `resize_and_crop`."""
        return np.array(self.resize_and_crop(image, full_size))

    def resized_size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of an image after resizing, before cropping."""
        if not self.keep_aspect:
            return self.resize, self.resize
        if width <= height:
            return self.resize, int(self.resize * height / width)
        return int(self.resize * width / height), self.resize
