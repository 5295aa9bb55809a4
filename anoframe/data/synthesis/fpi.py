"""FPI and PII: patches of another image are interpolated at the same place (Tan et al., 2020 and MICCAI 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anoframe.data.synthesis.base import Context, Generator, Pixels, Synthetic, check_choice, check_interval
from anoframe.data.synthesis.blending import apply_patches
from anoframe.data.synthesis.nsa import class_settings
from anoframe.data.synthesis.nsa_classes import GENERIC, NSA_CLASSES
from anoframe.data.synthesis.nsa_patch import draw_patches


class FPI(Generator):
    """Mix patches of another training image into the same place: (1 - a) image + a other, with the label a.

    Patches have the sizes, number and background rule of NSA, as in its comparison with FPI.

    Args:
        factor: bounds of the factor a, which is uniform and the same for all patches of an image.
        like: row of the class table of NSA, see `nsa.NSA`.
        p_anomaly: see `Generator`.
    """

    name = "fpi"
    min_side = 32
    blend = "swap"

    def __init__(self, factor: Sequence[float] = (0.05, 0.95), like: str | None = None, p_anomaly: float = 1.0) -> None:
        super().__init__(p_anomaly)
        if like is not None:
            check_choice(self.name, "like", like, (*NSA_CLASSES, *GENERIC))
        self.factor, self.like = check_interval(self.name, "factor", factor, 0, 1), like

    def edit(self, image: Pixels, rng: np.random.Generator, context: Context) -> Synthetic:
        other, index = context.draw_other(rng, image.shape)
        patches = draw_patches(rng, image, other, class_settings(self.like, context.category), shift=False)
        factor = float(rng.uniform(*self.factor))
        edited, mask = apply_patches(image, patches, self.blend, factor)
        boxes = [patch.target for patch in patches]
        meta = {"generator": self.name, "source_index": index, "boxes": boxes, "factor": factor}
        return Synthetic(edited, mask, image, mask * np.float32(factor), meta)

    def _empty_label(self, image: Pixels) -> NDArray[np.float32]:
        return np.zeros(image.shape[:2], np.float32)
