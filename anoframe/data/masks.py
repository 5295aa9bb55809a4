"""Ground-truth masks: decoding, resizing, masks of another size than their image, and images without a mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from anoframe.data.image_decoding import open_image, reject_multiple_frames
from anoframe.data.preprocessing import Preprocessing

Mask = NDArray[np.bool_]  # [H, W], True for defect pixels


def read_mask(path: Path, data: bytes | None = None) -> Mask:
    """Decode a mask as upright bool [H, W]; every value except zero is defect.

    Masks of VisA have several grey values and label masks have one value per region, so there is no threshold, and any
    bit depth is accepted. Palette masks are judged by colour, because black need not be entry 0; alpha is dropped.

    Args:
        path: of the file.
        data: content of the file, if it was read before.

    Raises:
        AnoframeError: as `anoframe.data.image_decoding.read_image`.
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
