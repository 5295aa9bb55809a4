"""Geometric transforms that image and mask go through together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from anoframe.data.synthesis.base import Mask, Synthetic, check_choice, resize_pixels
from anoframe.data.synthesis.boxes import Box
from anoframe.errors import AnoframeError


def crop_and_resize(synthetic: Synthetic, box: Box, height: int, width: int) -> Synthetic:
    """Cut the same box out of image, base, mask and label, and resize them.

    Image, base and label are interpolated; the mask takes the nearest pixel, and the label is 0 outside of it.

    Raises:
        AnoframeError: the box is empty or reaches beyond the image.
    """
    if box.area < 1 or box.clipped(synthetic.mask.shape) != box:
        raise AnoframeError(
            f"the crop {tuple(box)} is not inside an image of {synthetic.mask.shape}; choose another box"
        )
    image, base = (resize_pixels(pixels[box.slices], height, width) for pixels in (synthetic.image, synthetic.base))
    mask = resize_mask(synthetic.mask[box.slices], height, width)
    label = synthetic.label
    if label is not None:
        picture = Image.fromarray(label[box.slices]).resize((width, height), Image.Resampling.BILINEAR)
        label = np.where(mask, np.clip(np.asarray(picture), 0, 1), 0).astype(np.float32)
    return replace(synthetic, image=image, base=base, mask=mask, label=label)


def resize_mask(mask: Mask, height: int, width: int, rule: str = "nearest") -> Mask:
    """Resize a mask, for example to the resolution of features.

    Args:
        mask: bool [H, W].
        height: of the result.
        width: of the result.
        rule: `nearest` takes the pixel at the centre of each cell (as CDO); `any` marks a cell that the mask touches.
    """
    check_choice("resize_mask", "rule", rule, ("nearest", "any"))
    levels = Image.fromarray(mask.astype(np.uint8) * 255)
    if rule == "nearest":
        return np.asarray(levels.resize((width, height), Image.Resampling.NEAREST)) > 0
    shares = Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    return np.asarray(shares) > 0
