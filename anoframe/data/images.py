"""Photographs and masks from disk, or an error that names the file and the way out.

The content of a file decides what it is, never its extension. EXIF orientation is applied to photographs and masks
alike. Whatever Pillow can turn into 8-bit RGB is read (greyscale, palette, 1-bit, CMYK; alpha is dropped); what would
have to be guessed, such as how to squeeze 16 bits into 8, is refused.
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

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})

_DEEP_MODES = {"I": "32-bit integer", "F": "floating-point"}
# Pillow reads 16-bit colour by throwing the low byte away, and only the raw mode of its decoder tells.
_DEEP_RAW_MODE = re.compile(r"(LA|RGB[AXa]*|CMYK);16")
_EIGHT_BIT = "convert it to 8 bits with the same scale for every image of the category"


def is_image_file(path: Path) -> bool:
    """Whether the name is that of an image: a common extension in any case, and not hidden (`._a.png` of macOS)."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read_image(path: Path) -> Image.Image:
    """The photograph as an upright RGB image.

    Raises AnoframeError, naming the file, when it is missing, empty, damaged, no image, too large to be safe, of more
    than 8 bits a channel, or of several frames.
    """
    with opened(path) as image:
        return to_rgb(image, path)


def to_rgb(image: Image.Image, name: object) -> Image.Image:
    """An upright RGB copy of an opened image; `name` is what an error calls it."""
    refuse_frames(image, name)
    refuse_depth(image, name)
    try:
        return ImageOps.exif_transpose(image).convert("RGB")
    except ValueError as error:
        raise AnoframeError(f"{name}: mode {image.mode} does not convert to RGB ({error}); save it as RGB") from error


def read_mask(path: Path, data: bytes | None = None) -> NDArray[np.bool_]:
    """The ground truth as bool [H, W], upright: any value but zero is defect.

    VisA's masks hold several grey values and label masks hold a number a region, so no level is a threshold, and any
    bit depth will do. A palette mask counts by colour, since black need not be entry 0; alpha is dropped.
    `data` is as for `opened`. Raises AnoframeError as `read_image` does.
    """
    with opened(path, data) as image:
        refuse_frames(image, path)
        upright = ImageOps.exif_transpose(image)
        if len(upright.getbands()) > 1 or upright.mode == "P":
            upright = upright.convert("RGB")
        marked = np.asarray(upright) != 0
    return marked.any(axis=2) if marked.ndim == 3 else marked


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as an opened image's head has them, after EXIF has turned it."""
    # Asking a PNG for EXIF that is not in its head makes Pillow decode all of it.
    if image.format == "PNG" and not {"exif", "xmp", "Raw profile type exif"} & image.info.keys():
        return image.size
    sideways = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    return (image.height, image.width) if sideways else image.size


def reduce_jpeg(image: Image.Image, side: int) -> tuple[int, int]:
    """Have an opened JPEG decoded smaller, with no side below `side`; returns the upright size that it had."""
    size = upright_size(image)
    image.draft("RGB", (side, side))
    return size


@contextmanager
def opened(path: Path, data: bytes | None = None) -> Iterator[Image.Image]:
    """The file as a lazily decoded Pillow image; whatever fails inside the block is an error that names the file.

    Args:
        data: the bytes of the file, where they have been read already.
    """
    _refuse_nothing(path)
    try:
        # By file object: given a name, Pillow 13 maps an uncompressed TIFF to memory and garbles one that EXIF turns.
        with path.open("rb") if data is None else io.BytesIO(data) as file, Image.open(file) as image:
            yield image
    except (AnoframeError, MemoryError):
        raise
    except PermissionError as error:
        raise AnoframeError(f"{path}: may not be read by this user; change its permissions") from error
    except Image.DecompressionBombError as error:
        raise AnoframeError(
            f"{path}: too many pixels to be decoded safely ({error}); cut it into tiles, or shrink it"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise AnoframeError(f"{path}: not an image that Pillow knows; replace or remove the file") from error
    # A damaged file makes Pillow's decoders raise nearly anything: OSError, SyntaxError, struct.error, IndexError ...
    except Exception as error:
        raise AnoframeError(f"{path}: damaged or truncated ({error}); copy or download it again") from error


def _refuse_nothing(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise AnoframeError(f"{path}: no such file, or a link to none; check the path and the copy") from error
    if not path.is_file():
        what = "a folder" if path.is_dir() else "a pipe or device"
        raise AnoframeError(f"{path}: {what} where an image file is expected; remove it, or give a file")
    if size == 0:
        raise AnoframeError(f"{path}: zero bytes; copy or download it again")


def refuse_frames(image: Image.Image, name: object) -> None:
    """Raise for an animation or a stack; the second picture of a camera's MPO file is but a preview or a depth map."""
    if image.format != "MPO" and getattr(image, "is_animated", False):
        frames = getattr(image, "n_frames", "several")
        raise AnoframeError(f"{name}: {frames} frames in one {image.format} file; save each frame as a file of its own")


def refuse_depth(image: Image.Image, name: object) -> None:
    """Raise for more than 8 bits a channel: no scale to 8 bits is right for every camera."""
    depth = _DEEP_MODES.get(image.mode)
    raw_modes = str([tile[3] for tile in getattr(image, "tile", [])])
    if image.mode.startswith("I;16") or _DEEP_RAW_MODE.search(raw_modes):
        depth = "16-bit"
    if depth:
        raise AnoframeError(f"{name}: {depth} image (mode {image.mode}); {_EIGHT_BIT}")
