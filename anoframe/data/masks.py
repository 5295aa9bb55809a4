"""Ground-truth masks: decoding, joining, resizing, masks of another size than their image, and images without a mask.

The mask of an image is one file, or a folder with one file per defect (MVTec LOCO), which are joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from anoframe.data.image_decoding import open_image, read_orientation, reject_multiple_frames, turn_upright
from anoframe.data.listing import list_images
from anoframe.data.preprocessing import Preprocessing
from anoframe.errors import AnoframeError, suggest

Mask = NDArray[np.bool_]  # [H, W], True for defect pixels

# rule -> level in 0..255, of a mask that was resized like an image, which a defect pixel exceeds
_RULES = {"half": 127, "covered": 254, "any": 0}
_FRAMES = ("upright", "stored")


@dataclass(frozen=True)
class MaskSettings:
    """How masks are read, the section `data` of a config without the prefix `mask_`.

    Args:
        rule: which pixels of a resized mask are defect: those of which more than `half` was defect, those that were
            `covered` by it completely, or those where `any` of it was.
        frame: the pixels on which masks were drawn: those of the `upright` photograph, or those `stored` in its file
            before EXIF orientation is applied. EXIF orientation of the mask itself counts only for `upright`.

    Raises:
        AnoframeError: another rule or frame.
    """

    rule: str = "half"
    frame: str = "upright"

    def __post_init__(self) -> None:
        for key, allowed in (("rule", tuple(_RULES)), ("frame", _FRAMES)):
            if getattr(self, key) not in allowed:
                value = getattr(self, key)
                raise AnoframeError(f"data.mask_{key}: unknown value {value!r}: {suggest(str(value), allowed)}")

    @property
    def is_upright(self) -> bool:
        """Whether masks lie on upright photographs."""
        return self.frame == "upright"


DEFAULT_MASKS = MaskSettings()


def mask_files(path: Path) -> list[Path]:
    """List the files of a mask, sorted by name: the file itself, or the image files in its folder.

    Raises:
        AnoframeError: the folder contains no image file.
    """
    if not path.is_dir():
        return [path]
    if not (files := list_images(path).files):
        raise AnoframeError(f"{path}: a folder without a mask; put a mask into it, or remove it")
    return files


def mask_orientation(image: Path, settings: MaskSettings) -> int | None:
    """Return the EXIF orientation to apply to the mask of an image; None for that of the mask file itself.

    Raises:
        AnoframeError: the image cannot be read.
    """
    if settings.is_upright:
        return None
    with open_image(image) as opened:
        return read_orientation(opened)


def read_mask(path: Path, orientation: int | None = None) -> Mask:
    """Decode a mask as upright bool [H, W]; every value except zero is defect.

    Args:
        path: of the file, or of a folder whose masks are joined.
        orientation: from `mask_orientation`.

    Raises:
        AnoframeError: as `join_masks`.
    """
    return join_masks(mask_files(path), orientation=orientation)


def join_masks(
    paths: Sequence[Path], contents: Sequence[bytes | None] | None = None, orientation: int | None = None
) -> Mask:
    """Decode the masks of one image and join them: a pixel is defect if any of them marks it.

    Args:
        paths: of the files, one or more.
        contents: of the files, in the same order, if they were read before.
        orientation: from `mask_orientation`.

    Raises:
        AnoframeError: as `anoframe.data.image_decoding.read_image`, or a mask has another size than the first.
    """
    files = zip(paths, contents or [None] * len(paths), strict=True)
    masks = [_decode_mask(path, data, orientation) for path, data in files]
    for path, mask in zip(paths, masks, strict=True):
        if mask.shape != masks[0].shape:
            size, first = (f"{width} x {height}" for height, width in (mask.shape, masks[0].shape))
            raise AnoframeError(
                f"{path}: {size} pixels, but {paths[0].name} of the same image {first}; save all masks of an image at "
                "the size of the image"
            )
    joined: Mask = np.logical_or.reduce(masks)
    return joined


def _decode_mask(path: Path, data: bytes | None, orientation: int | None) -> Mask:
    """Decode one file of a mask.

    Masks of VisA have several grey values and label masks have one value per region, so there is no threshold, and any
    bit depth is accepted. Palette masks are judged by colour, because black need not be entry 0; alpha is dropped.
    """
    with open_image(path, data) as image:
        reject_multiple_frames(image, path)
        upright = ImageOps.exif_transpose(image) if orientation is None else turn_upright(image, orientation)
        if len(upright.getbands()) > 1 or upright.mode == "P":
            upright = upright.convert("RGB")
        marked = np.asarray(upright) != 0
    return marked.any(axis=2) if marked.ndim == 3 else marked


def resize_mask(mask: Mask, preprocessing: Preprocessing, rule: str = "half") -> Mask:
    """Resize and crop a mask like its image to [H, W], padding is False; `rule` as in `MaskSettings`."""
    levels = Image.fromarray(mask.astype(np.uint8) * 255)
    resized = replace(preprocessing, interpolation="bilinear").resize_and_crop(levels, edge=False)
    return np.asarray(resized) > _RULES[rule]


def empty_mask(preprocessing: Preprocessing) -> Mask:
    """Return the all-False mask [H, W] of a good image, and of a defect image without a mask file.

    A dataset has masks for all defects or for none (`anoframe.data.validation`), and without any mask no pixel metric
    is computed; so a defect without a mask is never counted as normal pixels.
    """
    return np.zeros(preprocessing.size, bool)


def size_mismatch(mask: Path, mask_size: tuple[int, int], image: Path, image_size: tuple[int, int]) -> str:
    """Build the error message for a mask of another size than its image; sizes are (width, height)."""
    sizes = f"{mask_size[0]} x {mask_size[1]} pixels, its image {image} {image_size[0]} x {image_size[1]}"
    return f"{mask}: {sizes}; draw it on the image, at the same size"
