"""Decoding of image files with Pillow; every failure is an error that names the file and what to do.

The format is recognised by content, not by extension. EXIF orientation is applied to images and masks. All images that
Pillow converts to 8-bit RGB are read (greyscale, palette, 1-bit, CMYK; alpha is dropped). Images whose conversion would
be a guess, such as the scaling of 16 bits to 8, are rejected.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from anoframe.errors import AnoframeError

# Not .jp2 or .avif: of colour images with more than 8 bits, Pillow drops the low bits and does not say so.
SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".pbm", ".pgm", ".ppm", ".pnm"}
)

SIDEWAYS = frozenset({5, 6, 7, 8})  # EXIF orientations that exchange width and height
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_DEEP_MODES = {"I": "32-bit integer", "F": "floating-point"}
# Pillow reads 16-bit colour by dropping the low byte; only the raw mode of its decoder shows that.
_DEEP_RAW_MODE = re.compile(r"(LA|RGB[AXa]*|CMYK);16")
_EIGHT_BIT = "convert it to 8 bits with the same scale for every image of the category"


def is_image_file(path: Path) -> bool:
    """Return whether a file name has an image extension, in any case, and is not hidden (`._a.png` of macOS)."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read_image(path: Path) -> Image.Image:
    """Decode an image file as an upright RGB image.

    Raises:
        AnoframeError: names the file. It is missing, empty, damaged, not an image or too large to decode safely, or it
            has more than 8 bits per channel or several frames.
    """
    with open_image(path) as image:
        return to_rgb(image, path)


def to_rgb(image: Image.Image, name: object) -> Image.Image:
    """Convert an opened image to an upright RGB copy; error messages call it `name`."""
    reject_multiple_frames(image, name)
    reject_high_bit_depth(image, name)
    try:
        return ImageOps.exif_transpose(image).convert("RGB")
    except ValueError as error:
        raise AnoframeError(f"{name}: mode {image.mode} does not convert to RGB ({error}); save it as RGB") from error


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height from the header of an opened image, after EXIF orientation."""
    return (image.height, image.width) if header_orientation(image) in SIDEWAYS else image.size


def header_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation in the header of an opened image, 1 to 8; 1 is upright."""
    # Pillow decodes a whole PNG to look for EXIF data that is not in the header.
    if image.format == "PNG" and not {"exif", "xmp", "Raw profile type exif"} & image.info.keys():
        return 1
    return read_orientation(image)


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened image wherever it is in the file, 1 to 8; 1 is upright."""
    value = image.getexif().get(ExifTags.Base.Orientation, 1)
    return value if value in _TURNS else 1


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn or mirror stored pixels as an EXIF orientation asks for."""
    return image if orientation == 1 else image.transpose(_TURNS[orientation])


def reduce_jpeg(image: Image.Image, width: int, height: int) -> tuple[int, int]:
    """Configure an opened JPEG to be decoded at a reduced size; return its upright size.

    Args:
        image: opened.
        width, height: smallest sides of the decoded image, upright.
    """
    size = upright_size(image)
    image.draft("RGB", (height, width) if header_orientation(image) in SIDEWAYS else (width, height))
    return size


def array_to_pillow(array: NDArray[np.uint8]) -> Image.Image:
    """Convert a uint8 array `[H, W]`, `[H, W, 3]` RGB or `[H, W, 4]` RGBA to an RGB image; alpha is dropped.

    Raises:
        AnoframeError: another type or shape.
    """
    is_image_shape = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not is_image_shape or 0 in array.shape:
        raise AnoframeError(
            "an image array must be uint8 of shape [H, W], [H, W, 3] or [H, W, 4], "
            f"got {array.dtype} {list(array.shape)}; scale it to 0..255 and move its channels last"
        )
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


@contextmanager
def open_image(path: Path, data: bytes | None = None) -> Iterator[Image.Image]:
    """Open a file as a Pillow image that is decoded on first use; failures in the block are errors that name the file.

    Args:
        path: of the file.
        data: content of the file, if it was read before.
    """
    _check_file(path)
    try:
        # Not by path: Pillow 13 then maps an uncompressed TIFF to memory, and garbles it if EXIF turns it.
        with path.open("rb") if data is None else io.BytesIO(data) as file, Image.open(file) as image:
            yield image
    except (AnoframeError, MemoryError):
        raise
    except PermissionError as error:
        raise AnoframeError(f"{path}: no permission to read it; change its permissions") from error
    except Image.DecompressionBombError as error:
        raise AnoframeError(
            f"{path}: too many pixels to be decoded safely ({error}); cut it into tiles, or shrink it"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise AnoframeError(
            f"{path}: not an image in a format that Pillow reads; replace or remove the file"
        ) from error
    # On damaged files Pillow's decoders raise almost any type: OSError, SyntaxError, struct.error, IndexError ...
    except Exception as error:
        raise AnoframeError(f"{path}: damaged or truncated ({error}); copy or download it again") from error


def _check_file(path: Path) -> None:
    """Raise AnoframeError if a path is not a file with content."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise AnoframeError(f"{path}: no such file, or a broken link; check the path and the copy") from error
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe or device"
        raise AnoframeError(f"{path}: {kind} in place of an image file; remove it, or give a file")
    if size == 0:
        raise AnoframeError(f"{path}: zero bytes; copy or download it again")


def reject_multiple_frames(image: Image.Image, name: object) -> None:
    """Raise AnoframeError for an animation or a stack.

    MPO files of cameras are accepted: their second image is only a preview or a depth map.
    """
    if image.format != "MPO" and getattr(image, "is_animated", False):
        frames = getattr(image, "n_frames", "several")
        raise AnoframeError(f"{name}: {frames} frames in one {image.format} file; save each frame as a separate file")


def reject_high_bit_depth(image: Image.Image, name: object) -> None:
    """Raise AnoframeError for more than 8 bits per channel: no scale to 8 bits is right for every camera."""
    depth = _DEEP_MODES.get(image.mode)
    raw_modes = str([tile[3] for tile in getattr(image, "tile", [])])
    if image.mode.startswith("I;16") or _DEEP_RAW_MODE.search(raw_modes) or _is_deep_pnm(image):
        depth = "16-bit"
    if depth:
        raise AnoframeError(f"{name}: {depth} image (mode {image.mode}); {_EIGHT_BIT}")


def _is_deep_pnm(image: Image.Image) -> bool:
    """Return whether an opened PPM file has a maximum above 255, which Pillow scales to 8 bits without a word."""
    tiles = [tile for tile in getattr(image, "tile", []) if tile[0] in ("ppm", "ppm_plain")]
    return any(isinstance(tile[3], tuple) and tile[3][1] > 255 for tile in tiles)
