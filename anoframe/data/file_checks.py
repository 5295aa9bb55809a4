"""Checks of single image and mask files, without decoding them if possible."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from anoframe.data.image_decoding import (
    header_orientation,
    open_image,
    read_image,
    reject_high_bit_depth,
    reject_multiple_frames,
    upright_size,
)
from anoframe.data.masks import DEFAULT_MASKS, MaskSettings, mask_files, mask_orientation, read_mask, resize_mask
from anoframe.data.preprocessing import Preprocessing
from anoframe.errors import AnoframeError

THREADS = 8


@dataclass(frozen=True)
class FileCheck:
    """Result of checking one file."""

    problem: str | None = None  # names the file; the other fields are then not set
    mode: str = ""  # Pillow's name of the pixel format
    format: str = ""  # by content, not by extension
    size: tuple[int, int] | None = None  # width and height in pixels, upright
    orientation: int = 1  # EXIF orientation, 1 to 8; 1 is upright
    is_empty: bool | None = None  # a mask without any defect pixel; None for an image
    is_full: bool | None = None  # a mask without any normal pixel; None for an image
    is_lost: bool | None = None  # a mask with defect pixels, of which resizing and cropping leave none; None if unknown


def check_files(
    images: Iterable[Path],
    masks: Mapping[Path, Path],
    decode: bool,
    settings: MaskSettings = DEFAULT_MASKS,
    preprocessing: Preprocessing | None = None,
) -> dict[Path, FileCheck]:
    """Check all files, in threads, because a disk serves several readers faster than one.

    Args:
        images: image files.
        masks: mask -> its image; masks are always decoded.
        decode: decode all images instead of reading only their headers.
        settings: how masks are read.
        preprocessing: of a run, to find masks that it loses.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        image_checks = _check_each(pool, partial(check_image, decode=decode), images)

        def check(mask: Path) -> FileCheck:
            return check_mask(mask, masks[mask], settings, preprocessing)

        return image_checks | _check_each(pool, check, masks)


def _check_each(
    pool: ThreadPoolExecutor, check: Callable[[Path], FileCheck], paths: Iterable[Path]
) -> dict[Path, FileCheck]:
    unique = list(dict.fromkeys(paths))
    return dict(zip(unique, pool.map(check, unique), strict=True))


def check_image(path: Path, decode: bool) -> FileCheck:
    """Check an image; it is decoded if `decode` is set, or if its last bytes look truncated."""
    try:
        with open_image(path) as image:
            reject_multiple_frames(image, path)
            reject_high_bit_depth(image, path)
            header = _read_header(image)
        if decode or _may_be_truncated(path, header["format"]):
            header["size"] = read_image(path).size
    except AnoframeError as error:
        return FileCheck(problem=str(error))
    return FileCheck(**header)


def check_mask(
    path: Path, image_path: Path, settings: MaskSettings, preprocessing: Preprocessing | None = None
) -> FileCheck:
    """Check a mask, of one file or several; it is decoded, because only its pixels show whether it marks a defect.

    Args:
        path: of the mask.
        image_path: of its image.
        settings: how masks are read.
        preprocessing: None does not check whether defect pixels are left after it.
    """
    try:
        with open_image(mask_files(path)[0]) as image:
            header = _read_header(image)
        mask = read_mask(path, _orientation_for_check(image_path, settings))
    except AnoframeError as error:
        return FileCheck(problem=str(error))
    header["size"] = mask.shape[::-1]
    is_lost = None
    if preprocessing:
        is_lost = bool(mask.any()) and not resize_mask(mask, preprocessing, settings.rule).any()
    return FileCheck(**header, is_empty=not mask.any(), is_full=bool(mask.all()), is_lost=is_lost)


def _orientation_for_check(image: Path, settings: MaskSettings) -> int | None:
    """Return the orientation for the mask of an image; an image that cannot be read is a problem of its own."""
    try:
        return mask_orientation(image, settings)
    except AnoframeError:
        return None


def _read_header(image: Image.Image) -> dict[str, Any]:
    return {
        "mode": image.mode,
        "format": image.format or "",
        "size": upright_size(image),
        "orientation": header_orientation(image),
    }


def _may_be_truncated(path: Path, format_: str) -> bool:
    """Return whether a file may be truncated; only decoding can confirm it."""
    with path.open("rb") as file:
        head = file.read(12)
        length = file.seek(0, 2)
        file.seek(max(0, length - 1024))
        tail = file.read()
    if format_ in ("JPEG", "MPO"):
        return b"\xff\xd9" not in tail
    if format_ == "PNG":
        return b"IEND" not in tail
    if format_ == "BMP":
        return int.from_bytes(head[2:6], "little") > length
    if format_ == "WEBP":
        return int.from_bytes(head[4:8], "little") + 8 > length
    return True
