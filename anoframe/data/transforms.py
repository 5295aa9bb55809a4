"""From a photograph of any size to the square that a backbone sees.

The rules are those of torchvision's Resize and CenterCrop on a Pillow image, to the bit, so that published settings
mean here what they mean there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anoframe.errors import AnoframeError

_LARGEST = 16384  # pixels of a side: no network sees as many, and the square of it is what fits in memory


@dataclass(frozen=True)
class Preprocessing:
    """Resize, then cut the centre square.

    Args:
        resize: length in pixels of the shorter side after resizing (of both sides without `keep_aspect`).
        crop: side in pixels of the centre square that is kept, at most `resize`.
        keep_aspect: False squeezes the image to `resize` x `resize`, so that all of it is seen when `crop` is the same.
        jpeg_draft: a JPEG may be decoded at a half, a quarter or an eighth of its size, as long as no side gets shorter
            than `resize`: faster for large photographs, and a little other pixels.

    Raises AnoframeError for a size that is no whole number from 1 to 16,384, and for a crop larger than the resize.
    """

    resize: int
    crop: int
    keep_aspect: bool = True
    jpeg_draft: bool = False

    def __post_init__(self) -> None:
        for name in ("resize", "crop"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise AnoframeError(f"preprocessing: {name} must be a positive whole number of pixels, got {value!r}")
            if value > _LARGEST:
                raise AnoframeError(f"preprocessing: {name} {value} is larger than {_LARGEST} pixels; lower it")
        if self.crop > self.resize:
            raise AnoframeError(
                f"preprocessing: crop {self.crop} is larger than resize {self.resize}; lower crop or raise resize"
            )

    def image(self, image: Image.Image, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """An RGB image as uint8 [crop, crop, 3]; `size` is the photograph's, where the image is a reduced one."""
        return np.array(self._fit(image, size or image.size))

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A mask as bool [crop, crop]: resized as the image is, a pixel is defect where more than half of it was."""
        levels = Image.fromarray(mask.astype(np.uint8) * 255)
        return np.asarray(self._fit(levels, levels.size)) > 127

    def _fit(self, image: Image.Image, size: tuple[int, int]) -> Image.Image:
        target = self._resized(*size)
        left, top = (round((side - self.crop) / 2) for side in target)
        resized = image.resize(target, Image.Resampling.BILINEAR)
        return resized.crop((left, top, left + self.crop, top + self.crop))

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        if not self.keep_aspect:
            return self.resize, self.resize
        if width <= height:
            return self.resize, int(self.resize * height / width)
        return int(self.resize * width / height), self.resize
