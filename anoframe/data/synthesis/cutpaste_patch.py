"""CutPaste with rectangles (Li et al., CVPR 2021, section 2.2): a patch is moved to another place of its image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anoframe.data.synthesis.base import (
    Context,
    Generator,
    Mask,
    Pixels,
    Synthetic,
    check_choice,
    check_interval,
    check_range,
)
from anoframe.data.synthesis.boxes import Box, draw_size, place_box
from anoframe.data.synthesis.color import jitter_colors
from anoframe.data.synthesis.filters import summed_change

MASKS = ("region", "diff")


class CutPastePatch(Generator):
    """Cut a rectangle out of the image, change its colours, and paste it elsewhere in the same image.

    Args:
        area: bounds of the share of the image that the rectangle covers (uniform).
        aspect: bounds of width / height (log-uniform).
        jitter: amount of the colour jitter, 0 to 0.5.
        mask: `region` marks the whole rectangle, `diff` only pixels that changed by more than a grey level on average;
            the others then keep their values.
        p_anomaly: see `Generator`.
    """

    name = "cutpaste_patch"

    def __init__(
        self,
        area: Sequence[float] = (0.02, 0.15),
        aspect: Sequence[float] = (0.3, 3.3),
        jitter: float = 0.1,
        mask: str = "region",
        p_anomaly: float = 1.0,
    ) -> None:
        super().__init__(p_anomaly)
        self.area = check_interval(self.name, "area", area, 1e-4, 1)
        self.aspect = check_interval(self.name, "aspect", aspect, 0.01, 100)
        self.jitter = check_range(self.name, "jitter", jitter, 0, 0.5)
        self.mask = check_choice(self.name, "mask", mask, MASKS)

    def edit(self, image: Pixels, rng: np.random.Generator, context: Context) -> Synthetic:
        height, width = draw_size(rng, image.shape, self.area, self.aspect)
        source, target = (place_box(rng, height, width, image.shape) for _ in range(2))
        patch = jitter_colors(image[source.slices], rng, self.jitter)
        edited, mask = apply_mask_rule(image, paste_patch(image, patch, target), target.mask(image.shape), self.mask)
        return Synthetic(edited, mask, image, meta={"generator": self.name, "source": source, "target": target})


def paste_patch(image: Pixels, patch: Pixels, target: Box, alpha: Mask | None = None) -> Pixels:
    """Paste a patch into a copy of the image; `alpha` [h, w] selects its pixels, all of them by default."""
    edited = image.copy()
    area = edited[target.slices]
    area[...] = patch if alpha is None else np.where(alpha[..., None], patch, area)
    return edited


def apply_mask_rule(image: Pixels, edited: Pixels, region: Mask, rule: str) -> tuple[Pixels, Mask]:
    """Return the edited image and its mask.

    The mask is the region (rule `region`), or its pixels with a mean change above one grey level (rule `diff`); a
    smaller change is undone.
    """
    if rule == "region":
        return edited, region
    mask = region & (summed_change(image, edited) > 3)
    return np.where(mask[..., None], edited, image), mask
