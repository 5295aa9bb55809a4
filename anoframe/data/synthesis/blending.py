"""Blending of patches into an image, and the mask of what changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anoframe.data.synthesis.base import Field, Mask, Pixels
from anoframe.data.synthesis.filters import changed_mask
from anoframe.data.synthesis.nsa_patch import Patch
from anoframe.data.synthesis.poisson import GRADIENTS, poisson_edit

TOLERANCE = 1.0  # grey levels: pixels that changed less on average are not marked
_MIN_REGION = 50  # pixels: a smaller patch is left out, as in the official code of NSA


def apply_patches(image: Pixels, patches: Sequence[Patch], blend: str, factor: float = 1.0) -> tuple[Pixels, Mask]:
    """Blend patches into an image, one after another, and return it with the mask of changed pixels.

    A pixel is marked if it lies in a patch and changed by more than a grey level on average, after a 5 x 5 median. All
    other pixels keep the values of the image. The official code of NSA marks only pixels of an object, although Poisson
    editing changes the background beside it too; here that change is marked as well.

    Args:
        image: uint8 [H, W, 3].
        patches: in the order of blending.
        blend: `normal` or `mixed` Poisson editing, or `swap`.
        factor: weight of the blended pixels; the rest is the image before the patch.
    """
    edited, within = image.copy(), np.zeros(image.shape[:2], bool)
    for patch in patches:
        blended = _blend(edited[patch.target.slices], patch, blend)
        if blended is not None:
            area = edited[patch.target.slices]
            area[...] = to_pixels((1 - factor) * area + factor * blended)
            within[patch.target.slices] = True
    mask = changed_mask(image, edited, within, TOLERANCE)
    return np.where(mask[..., None], edited, image), mask


def _blend(area: Pixels, patch: Patch, blend: str) -> Field | None:
    """Return the blended pixels of the area [h, w, 3]; None if the patch is too small."""
    if blend not in GRADIENTS:
        return np.where(patch.blend[..., None], patch.pixels, area).astype(float)
    # The background of both images belongs to the region too: the object keeps its contrast to it
    region = np.zeros(area.shape[:2], bool)
    region[1:-1, 1:-1] = True
    if region.sum() < _MIN_REGION:
        return None
    return poisson_edit(area.astype(float), patch.pixels.astype(float), region, blend)


def to_pixels(values: Field) -> Pixels:
    """Round to uint8 and clip.

    A first rounding to six decimals makes the result independent of the last digits, which differ between processors.
    """
    return np.rint(np.round(values, 6)).clip(0, 255).astype(np.uint8)
