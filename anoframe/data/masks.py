"""Ground-truth masks: decoding, joining, resizing, masks of another size than their image, and images without a mask.

The mask of an image is one file, or a folder with one file per defect (MVTec LOCO), which are joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from anoframe.data.image_decoding import is_image_file, open_image, reject_multiple_frames
from anoframe.data.preprocessing import Preprocessing
from anoframe.errors import AnoframeError

Mask = NDArray[np.bool_]  # [H, W], True for defect pixels


def mask_files(path: Path) -> list[Path]:
    """List the files of a mask, sorted by name: the file itself, or the image files in its folder.

    Raises:
        AnoframeError: the folder contains no image file.
    """
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if is_image_file(file))
    if not files:
        raise AnoframeError(f"{path}: a folder without a mask; put a mask into it, or remove it")
    return files


def read_mask(path: Path) -> Mask:
    """Decode a mask as upright bool [H, W]; every value except zero is defect.

    Args:
        path: of the file, or of a folder whose masks are joined.

    Raises:
        AnoframeError: as `join_masks`.
    """
    return join_masks(mask_files(path))


def join_masks(paths: Sequence[Path], contents: Sequence[bytes | None] | None = None) -> Mask:
    """Decode the masks of one image and join them: a pixel is defect if any of them marks it.

    Args:
        paths: of the files, one or more.
        contents: of the files, in the same order, if they were read before.

    Raises:
        AnoframeError: as `anoframe.data.image_decoding.read_image`, or a mask has another size than the first.
    """
    masks = [_decode_mask(path, data) for path, data in zip(paths, contents or [None] * len(paths), strict=True)]
    for path, mask in zip(paths, masks, strict=True):
        if mask.shape != masks[0].shape:
            size, first = (f"{width} x {height}" for height, width in (mask.shape, masks[0].shape))
            raise AnoframeError(
                f"{path}: {size} pixels, but {paths[0].name} of the same image {first}; save all masks of an image at "
                "the size of the image"
            )
    return np.logical_or.reduce(masks)


def _decode_mask(path: Path, data: bytes | None) -> Mask:
    """Decode one file of a mask.

    Masks of VisA have several grey values and label masks have one value per region, so there is no threshold, and any
    bit depth is accepted. Palette masks are judged by colour, because black need not be entry 0; alpha is dropped.
    """
    with open_image(path, data) as image:
        reject_multiple_frames(image, path)
        upright = ImageOps.exif_transpose(image)
        if len(upright.getbands()) > 1 or upright.mode == "P":
            upright = upright.convert("RGB")
        marked = np.asarray(upright) != 0
    return marked.any(axis=2) if marked.ndim == 3 else marked


def resize_mask(mask: Mask, preprocessing: Preprocessing) -> Mask:
    """Resize and crop a mask like its image to [crop, crop]; a pixel is defect if more than half of its area was."""
    levels = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(preprocessing.resize_and_crop(levels)) > 127


def empty_mask(preprocessing: Preprocessing) -> Mask:
    """Return the all-False mask [crop, crop] of a good image, and of a defect image without a mask file.

    A dataset has masks for all defects or for none (`anoframe.data.validation`), and without any mask no pixel metric
    is computed; so a defect without a mask is never counted as normal pixels.
    """
    return np.zeros((preprocessing.crop, preprocessing.crop), bool)


def size_mismatch(mask: Path, mask_size: tuple[int, int], image: Path, image_size: tuple[int, int]) -> str:
    """Build the error message for a mask of another size than its image; sizes are (width, height)."""
    sizes = f"{mask_size[0]} x {mask_size[1]} pixels, its image {image} {image_size[0]} x {image_size[1]}"
    return f"{mask}: {sizes}; draw it on the image, at the same size"
