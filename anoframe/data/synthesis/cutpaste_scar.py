"""CutPaste-Scar (Li et al., CVPR 2021, section 2.3): a thin rotated rectangle is pasted, like a scratch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

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
from anoframe.data.synthesis.boxes import place_box
from anoframe.data.synthesis.color import jitter_colors
from anoframe.data.synthesis.cutpaste_patch import MASKS, apply_mask_rule, paste_patch

_REFERENCE_SIDE = 256  # pixels of the shorter image side that `width` and `length` refer to


class CutPasteScar(Generator):
    """Cut a thin rectangle out of the image, change its colours, rotate it, and paste it in the same image.

    Args:
        width: bounds of the width in pixels of an image with a shorter side of 256; scaled for other sizes.
        length: bounds of the length, in the same unit.
        rotation: largest angle in degrees, in both directions.
        jitter: amount of the colour jitter, 0 to 0.5.
        mask: as in `CutPastePatch`.
        p_anomaly: see `Generator`.
    """

    name = "cutpaste_scar"

    def __init__(
        self,
        width: Sequence[int] = (2, 16),
        length: Sequence[int] = (10, 25),
        rotation: float = 45.0,
        jitter: float = 0.1,
        mask: str = "region",
        p_anomaly: float = 1.0,
    ) -> None:
        super().__init__(p_anomaly)
        self.width = check_interval(self.name, "width", width, 1, 128)
        self.length = check_interval(self.name, "length", length, 1, 128)
        self.rotation = check_range(self.name, "rotation", rotation, 0, 180)
        self.jitter = check_range(self.name, "jitter", jitter, 0, 0.5)
        self.mask = check_choice(self.name, "mask", mask, MASKS)

    def edit(self, image: Pixels, rng: np.random.Generator, context: Context) -> Synthetic:
        scale = min(image.shape[:2]) / _REFERENCE_SIDE
        width, length = (
            max(1, round(int(rng.integers(int(low), int(high) + 1)) * scale)) for low, high in (self.width, self.length)
        )
        source = place_box(rng, length, width, image.shape)
        angle = float(rng.uniform(-self.rotation, self.rotation))
        patch, alpha = rotate_patch(jitter_colors(image[source.slices], rng, self.jitter), angle)
        # A rotated scar that is larger than a very small image is cut at its border
        patch, alpha = patch[: image.shape[0], : image.shape[1]], alpha[: image.shape[0], : image.shape[1]]
        target = place_box(rng, alpha.shape[0], alpha.shape[1], image.shape)
        region = np.zeros(image.shape[:2], bool)
        region[target.slices] = alpha
        meta = {"generator": self.name, "source": source, "target": target, "angle": angle}
        edited, mask = apply_mask_rule(image, paste_patch(image, patch, target, alpha), region, self.mask)
        return Synthetic(edited, mask, image, meta=meta)


def rotate_patch(patch: Pixels, angle: float) -> tuple[Pixels, Mask]:
    """Rotate a patch counter-clockwise by an angle in degrees, and return it with the mask of its pixels.

    The result is as large as the rotated rectangle needs. Pixels are the nearest ones, so that the mask is exact.
    """
    picture = Image.fromarray(np.ascontiguousarray(patch)).convert("RGBA")
    rotated = np.asarray(picture.rotate(angle, resample=Image.Resampling.NEAREST, expand=True))
    return rotated[..., :3], rotated[..., 3] > 0
