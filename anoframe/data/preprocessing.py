"""Resizing, padding and cropping of images to the input of a backbone, a square or a rectangle.

The rules are those of torchvision's Resize and CenterCrop on a Pillow image, equal to the bit, so that published
settings give the same pixels here. docs/shapes.md compares the ways for photographs that are not square.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anoframe.errors import AnoframeError

INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
PAD = "pad"  # value of `keep_aspect`
RECTANGLE = "rectangle"  # value of `data.keep_aspect`, which a run replaces, see `anoframe.data.rectangle`
_MAX_SIDE = 16384  # pixels: more than any network uses, and its square still fits into memory


@dataclass(frozen=True)
class Preprocessing:
    """Settings of resize, padding and centre crop.

    A size is a number of pixels for a square, or (height, width). Two equal sides are the same as one number.

    Args:
        resize: size after resizing; with `keep_aspect`, what the resized image covers at least (True) or fits into
            (`"pad"`). For True and one number that is the length of the shorter side.
        crop: size of the centre that is kept, at most `resize`.
        keep_aspect: False resizes the image to `resize` whatever its shape, so that all of it is kept if `crop` is the
            same. True keeps its aspect ratio, and the crop cuts off the ends of an image of another shape. `"pad"`
            keeps it too: the image is fitted into `resize`, and the rest is filled with the pixels of its border. The
            filled pixels do not count (`counted`).
        jpeg_draft: decode a JPEG at 1/2, 1/4 or 1/8 of its size if no side becomes shorter than `resize`: faster for
            large images, with slightly different pixels.
        interpolation: of the resizing, `"bilinear"` or `"bicubic"` (as CLIP was trained); both with antialiasing.

    Raises:
        AnoframeError: a size is not one or two whole numbers from 1 to 16,384, the crop is larger than the resize, or
            the interpolation or `keep_aspect` is unknown.
    """

    resize: int | tuple[int, int]
    crop: int | tuple[int, int]
    keep_aspect: bool | str = True
    jpeg_draft: bool = False
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        for name in ("resize", "crop"):
            object.__setattr__(self, name, check_size(getattr(self, name), f"preprocessing: {name}"))
        if self.interpolation not in INTERPOLATIONS:
            raise AnoframeError(
                f"preprocessing: interpolation is one of {', '.join(INTERPOLATIONS)}, got {self.interpolation!r}"
            )
        if not isinstance(self.keep_aspect, bool) and self.keep_aspect != PAD:
            more = ": only a run of a detector chooses a rectangle" if self.keep_aspect == RECTANGLE else ""
            raise AnoframeError(f"preprocessing: keep_aspect is True, False or {PAD!r}, got {self.keep_aspect!r}{more}")
        if any(cut > side for cut, side in zip(self.size, height_width(self.resize), strict=True)):
            raise AnoframeError(
                f"preprocessing: crop {self.crop} is larger than resize {self.resize}; lower crop or raise resize"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the preprocessed image."""
        return height_width(self.crop)

    @property
    def pads(self) -> bool:
        """Whether images of another shape are padded."""
        return self.keep_aspect == PAD

    def settings(self) -> dict[str, Any]:
        """Return the settings as JSON types."""
        values = asdict(self)
        return values | {name: list(pair) for name, pair in values.items() if isinstance(pair, tuple)}

    def resize_and_crop(
        self, image: Image.Image, full_size: tuple[int, int] | None = None, edge: bool = True
    ) -> Image.Image:
        """Resize a Pillow image, and keep the centre or pad it.

        Args:
            image: of any size and mode.
            full_size: width and height of the original if `image` was decoded at a reduced size.
            edge: pad with the nearest pixels of the image; False pads with zeros.
        """
        width, height = self.resized_size(*(full_size or image.size))
        top, left = self.origin(width, height)
        resized = image.resize((width, height), INTERPOLATIONS[self.interpolation])
        frame = resized.crop((left, top, left + self.size[1], top + self.size[0]))  # zeros outside of the image
        rows, columns = _covered(top, height, self.size[0]), _covered(left, width, self.size[1])
        if not edge or (rows, columns) == (slice(0, self.size[0]), slice(0, self.size[1])):
            return frame
        return Image.fromarray(_repeat_border(np.asarray(frame)[rows, columns], rows, columns, self.size))

    def to_array(self, image: Image.Image, full_size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Preprocess an RGB image to a uint8 array [H, W, 3]; `full_size` as in `resize_and_crop`."""
        return np.array(self.resize_and_crop(image, full_size))

    def resized_size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of an image after resizing, before padding and cropping."""
        box_height, box_width = height_width(self.resize)
        if self.keep_aspect is False:
            return box_width, box_height
        is_wider = box_height * width > box_width * height  # than the box
        if self.pads:
            if is_wider:
                return box_width, max(1, round(box_width * height / width))
            return max(1, round(box_height * width / height)), box_height
        if is_wider:
            return int(box_height * width / height), box_height
        return box_width, int(box_width * height / width)

    def least_sides(self, width: int, height: int) -> tuple[int, int]:
        """Return the least width and height to which an image of this size may be decoded before it is resized."""
        return (self.resize, self.resize) if isinstance(self.resize, int) else self.resized_size(width, height)

    def origin(self, width: int, height: int) -> tuple[int, int]:
        """Return row and column of the resized image at which the preprocessed image begins; negative if padded.

        Args:
            width, height: from `resized_size`.
        """
        return self._origin(height, 0), self._origin(width, 1)

    def _origin(self, length: int, axis: int) -> int:
        cut, side = self.size[axis], height_width(self.resize)[axis]
        if not self.pads:
            return round((length - cut) / 2)
        return round((side - cut) / 2) - round((side - length) / 2)

    def counted(self, width: int, height: int) -> NDArray[np.bool_]:
        """Return which pixels [H, W] of the preprocessed image show the image of this size, and not padding."""
        resized_width, resized_height = self.resized_size(width, height)
        top, left = self.origin(resized_width, resized_height)
        counted = np.zeros(self.size, bool)
        counted[_covered(top, resized_height, self.size[0]), _covered(left, resized_width, self.size[1])] = True
        return counted


def height_width(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return height and width.

    >>> height_width(224), height_width((320, 160))
    ((224, 224), (320, 160))
    """
    return (size, size) if isinstance(size, int) else size


def check_size(value: object, name: str) -> int | tuple[int, int]:
    """Return a size as one number, or as (height, width) of two different ones.

    Raises:
        AnoframeError: it is neither, or a side is not from 1 to 16,384 pixels; the message begins with `name`.
    """
    sides = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not sides or len(sides) > 2 or any(type(side) is not int or side < 1 for side in sides):
        raise AnoframeError(
            f"{name} must be a positive whole number of pixels, or a pair of them (height, width), got {value!r}"
        )
    if max(sides) > _MAX_SIDE:
        raise AnoframeError(f"{name} {value} is larger than {_MAX_SIDE} pixels; lower it")
    return sides[0] if len(set(sides)) == 1 else (sides[0], sides[1])


def size_text(size: object) -> str:
    """Return a size of a provenance in words; another value than a pair is taken for a square.

    >>> size_text(224), size_text((320, 160))
    ('224 x 224', '320 x 160')
    """
    height, width = size if isinstance(size, list | tuple) and len(size) == 2 else (size, size)
    return f"{height} x {width}"


def _covered(origin: int, length: int, side: int) -> slice:
    """Return the part of an axis of the preprocessed image that shows the image."""
    return slice(max(0, -origin), min(side, length - origin))


def _repeat_border(inside: NDArray[np.uint8], rows: slice, columns: slice, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Pad an image [h, w] or [h, w, C], which becomes `[rows, columns]` of the result, with its nearest pixels."""
    widths = [(rows.start, size[0] - rows.stop), (columns.start, size[1] - columns.stop)]
    return np.pad(inside, widths + [(0, 0)] * (inside.ndim - 2), mode="edge")
