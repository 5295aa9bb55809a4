"""SmoothBlend: a small patch is pasted with a soft border (SPot-the-Difference, Zou et al., ECCV 2022, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter

from anoframe.data.synthesis.base import Context, Field, Generator, Pixels, Synthetic, check_interval, check_range
from anoframe.data.synthesis.blending import to_pixels
from anoframe.data.synthesis.boxes import Box, draw_size, place_box
from anoframe.data.synthesis.color import jitter_colors

_TRUNCATE = 3.0  # standard deviations after which the border ends


class SmoothBlend(Generator):
    """Paste a small patch of the image elsewhere in it, through a mask with a soft border.

    The border is a Gaussian; it reaches beyond the drawn box by three standard deviations, as does the patch.

    Args:
        area: bounds of the share of the image that the box covers (uniform).
        aspect: bounds of width / height (log-uniform).
        jitter: amount of the colour jitter, 0 to 0.5.
        legacy_blur: standard deviation in pixels of a blur of the patch itself, which is then pasted with a hard border
            (8 at 224 pixels in one public implementation); 0: soft border.
        p_anomaly: see `Generator`.
    """

    name = "smooth_blend"

    def __init__(
        self,
        area: Sequence[float] = (0.005, 0.01),
        aspect: Sequence[float] = (0.3, 3.3),
        jitter: float = 0.1,
        legacy_blur: float = 0.0,
        p_anomaly: float = 1.0,
    ) -> None:
        super().__init__(p_anomaly)
        self.area = check_interval(self.name, "area", area, 1e-4, 1)
        self.aspect = check_interval(self.name, "aspect", aspect, 0.01, 100)
        self.jitter = check_range(self.name, "jitter", jitter, 0, 0.5)
        self.legacy_blur = check_range(self.name, "legacy_blur", legacy_blur, 0, 100)

    def edit(self, image: Pixels, rng: np.random.Generator, context: Context) -> Synthetic:
        height, width = draw_size(rng, image.shape, self.area, self.aspect)
        source, target = (place_box(rng, height, width, image.shape) for _ in range(2))
        sigma = 0.0 if self.legacy_blur else max(1.0, 0.1 * min(height, width))
        margin = int(_TRUNCATE * sigma + 0.5)
        patch = jitter_colors(cut_patch(image, source, margin), rng, self.jitter)
        if self.legacy_blur:
            patch = np.asarray(Image.fromarray(patch).filter(ImageFilter.GaussianBlur(self.legacy_blur)))
        edited, alpha = blend_patch(image, patch, target, margin, sigma)
        meta = {"generator": self.name, "source": source, "target": target, "sigma": sigma}
        return Synthetic(edited, alpha > 0, image, alpha.astype(np.float32), meta)

    def _empty_label(self, image: Pixels) -> np.ndarray:
        return np.zeros(image.shape[:2], np.float32)


def cut_patch(image: Pixels, box: Box, margin: int) -> Pixels:
    """Cut a box with a margin out of the image; beyond the image, its border pixels are repeated."""
    rows = np.arange(box.top - margin, box.top + box.height + margin).clip(0, image.shape[0] - 1)
    columns = np.arange(box.left - margin, box.left + box.width + margin).clip(0, image.shape[1] - 1)
    return np.ascontiguousarray(image[np.ix_(rows, columns)])


def blend_patch(image: Pixels, patch: Pixels, box: Box, margin: int, sigma: float) -> tuple[Pixels, Field]:
    """Blend a patch with its margin into a copy of the image; return it with the weight alpha of the patch, [H, W]."""
    alpha = np.pad(np.ones((box.height, box.width)), margin)
    if sigma > 0:
        alpha = gaussian_filter(alpha, sigma, mode="constant", truncate=_TRUNCATE)
    outer = Box(box.top - margin, box.left - margin, *alpha.shape)
    inside = outer.clipped(image.shape)
    part = Box(inside.top - outer.top, inside.left - outer.left, inside.height, inside.width).slices
    weight, edited, weights = alpha[part][..., None], image.copy(), np.zeros(image.shape[:2])
    edited[inside.slices] = to_pixels(weight * patch[part] + (1 - weight) * image[inside.slices])
    weights[inside.slices] = alpha[part]
    return edited, weights
