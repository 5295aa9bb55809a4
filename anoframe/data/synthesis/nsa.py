"""NSA: patches of other training images are resized, moved and blended by Poisson editing (Schlueter, ECCV 2022)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anoframe.data.synthesis.base import (
    Context,
    Field,
    Generator,
    Mask,
    Pixels,
    Synthetic,
    check_choice,
)
from anoframe.data.synthesis.blending import apply_patches
from anoframe.data.synthesis.filters import median_change
from anoframe.data.synthesis.nsa_classes import GENERIC, GENERIC_OBJECT, NSA_CLASSES, NsaClass
from anoframe.data.synthesis.nsa_patch import draw_patches

BLENDS = ("auto", "normal", "mixed", "swap")
LABELS = ("binary", "intensity", "logistic")


class NSA(Generator):
    """Blend patches of another training image into the image.

    Args:
        like: row of the class table to use, for example `tile` or `generic_texture`; None: the row of the category, or
            `generic` for a category that is not in the table.
        label: `binary`: the mask is the label. `intensity`: median change in a disk, divided by 255. `logistic`: its
            logistic function, the best one of the paper.
        blend: `normal` takes the gradients of the patch, `mixed` the stronger ones of patch and image, `swap` replaces
            pixels; `auto` is `normal` for objects and `mixed` for textures.
        source: `other` training image, or the `same` image.
        resize: change the size of a patch.
        p_anomaly: see `Generator`.
    """

    name = "nsa"
    min_side = 32

    def __init__(
        self,
        like: str | None = None,
        label: str = "binary",
        blend: str = "auto",
        source: str = "other",
        resize: bool = True,
        p_anomaly: float = 1.0,
    ) -> None:
        super().__init__(p_anomaly)
        if like is not None:
            check_choice(self.name, "like", like, (*NSA_CLASSES, *GENERIC))
        self.like, self.resize = like, resize
        self.label = check_choice(self.name, "label", label, LABELS)
        self.blend = check_choice(self.name, "blend", blend, BLENDS)
        self.source = check_choice(self.name, "source", source, ("other", "same"))

    def edit(self, image: Pixels, rng: np.random.Generator, context: Context) -> Synthetic:
        settings, blend = class_settings(self.like, context.category), self.blend
        if blend == "auto":
            blend = default_blend(settings)
        other, index = context.draw_other(rng, image.shape) if self.source == "other" else (image, context.index)
        patches = draw_patches(rng, image, other, settings, resize=self.resize)
        edited, mask = apply_patches(image, patches, blend)
        boxes = [{"source": patch.source, "target": patch.target} for patch in patches]
        meta = {"generator": self.name, "source_index": index, "patches": boxes, "blend": blend}
        return Synthetic(edited, mask, image, self._soft_label(image, edited, mask, settings), meta)

    def _soft_label(self, image: Pixels, edited: Pixels, mask: Mask, settings: NsaClass) -> NDArray[np.float32] | None:
        if self.label == "binary":
            return None
        change = median_change(image, edited, mask)
        if self.label == "logistic":
            return logistic_label(change, mask, settings.slope, settings.midpoint)
        return np.where(mask, change / 255, 0).astype(np.float32)

    def _empty_label(self, image: Pixels) -> NDArray[np.float32] | None:
        return None if self.label == "binary" else np.zeros(image.shape[:2], np.float32)


def class_settings(like: str | None, category: str) -> NsaClass:
    """Return the named row of the class table, or that of the category, or the generic one."""
    if like is not None:
        return GENERIC[like] if like in GENERIC else NSA_CLASSES[like]
    return NSA_CLASSES.get(category, GENERIC_OBJECT)


def default_blend(settings: NsaClass) -> str:
    """Return the blending of the paper: mixed gradients for textures, gradients of the source for objects."""
    return "mixed" if settings.is_texture else "normal"


def logistic_label(change: Field, mask: Mask, slope: float, midpoint: float) -> NDArray[np.float32]:
    """Return 1 / (1 + exp(-slope (change - midpoint))) inside the mask and 0 outside; the change is in grey levels."""
    values = 1 / (1 + np.exp(-slope * (change - midpoint)))
    return np.where(mask, values, 0).astype(np.float32)
