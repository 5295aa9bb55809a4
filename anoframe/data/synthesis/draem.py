"""DRAEM: foreign textures in the shape of thresholded Perlin noise (Zavrtanik et al., ICCV 2021, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from anoframe.data.synthesis.base import (
    Context,
    Field,
    Generator,
    Mask,
    Pixels,
    Synthetic,
    check_choice,
    check_interval,
    check_probability,
    check_range,
)
from anoframe.data.synthesis.blending import to_pixels
from anoframe.data.synthesis.operators import change_texture
from anoframe.data.synthesis.perlin import perlin_noise
from anoframe.data.synthesis.textures import TextureFolder, draw_perlin_texture, draw_training_texture
from anoframe.errors import AnoframeError

TEXTURES = ("auto", "folder", "self", "perlin")
_THRESHOLD = 0.5  # of the noise
_LATTICES = 6  # lattices have 2^0 to 2^5 cells along each side


class DRAEM(Generator):
    """Blend a changed texture into the image where Perlin noise is above 0.5.

    Args:
        texture: `folder` takes images of `texture_root`; `self` takes enlarged parts of other training images; `perlin`
            takes coloured noise; `auto` is `folder` if `texture_root` is given and `self` otherwise.
        texture_root: folder of textures, searched with its subfolders, for example the Describable Textures Dataset.
        beta: bounds of the weight of the image inside the mask (uniform).
        rotate_base: probability that the image is rotated by -90 to 90 degrees, edited or not: an augmentation of
            normal images, with black corners.
        rotate_mask: rotate the noise by -90 to 90 degrees.
        retry_empty: how often noise without any value above the threshold is drawn again; the official code has 0.
        p_anomaly: see `Generator`.
    """

    name = "draem"
    min_side = 32

    def __init__(
        self,
        texture: str = "auto",
        texture_root: str | None = None,
        beta: Sequence[float] = (0.0, 0.8),
        rotate_base: float = 0.3,
        rotate_mask: bool = True,
        retry_empty: int = 10,
        p_anomaly: float = 0.5,
    ) -> None:
        super().__init__(p_anomaly)
        check_choice(self.name, "texture", texture, TEXTURES)
        self.texture = ("folder" if texture_root else "self") if texture == "auto" else texture
        if (self.texture == "folder") != bool(texture_root):
            raise AnoframeError(
                f"{self.name}: texture {texture!r} does not fit texture_root {texture_root!r}; give the folder with "
                "texture auto or folder only"
            )
        self._folder = TextureFolder(texture_root) if texture_root else None
        self._is_fallback = texture == "auto" and not texture_root
        self.beta = check_interval(self.name, "beta", beta, 0, 1)
        self.rotate_base = check_probability(self.name, "rotate_base", rotate_base)
        self.rotate_mask = rotate_mask
        self.retry_empty = int(check_range(self.name, "retry_empty", retry_empty, 0, 1000))

    def notes(self) -> Sequence[str]:
        if not self._is_fallback:
            return ()
        return (f"{self.name}: texture_root is not set: textures are parts of other training images, not of DTD",)

    def augment_base(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        angle = float(rng.uniform(-90, 90))
        if rng.random() >= self.rotate_base:
            return image
        return np.array(Image.fromarray(image).rotate(angle, Image.Resampling.BILINEAR))

    def edit(self, image: Pixels, rng: np.random.Generator, context: Context) -> Synthetic:
        texture, meta = self._draw_texture(rng, context, *image.shape[:2])
        texture, operators = change_texture(texture, rng)
        mask = self._draw_mask(rng, *image.shape[:2])
        beta = float(rng.uniform(*self.beta))
        edited = blend_texture(image, texture, mask, beta)
        return Synthetic(edited, mask, image, meta={**meta, "operators": operators, "beta": beta})

    def _draw_texture(
        self, rng: np.random.Generator, context: Context, height: int, width: int
    ) -> tuple[Pixels, dict[str, Any]]:
        meta: dict[str, Any] = {"generator": self.name, "texture": self.texture}
        if self._folder:
            texture, file = self._folder.draw(rng, height, width)
            return texture, {**meta, "texture_file": file}
        if self.texture == "self":
            texture, index = draw_training_texture(rng, context, height, width)
            return texture, {**meta, "source_index": index}
        return draw_perlin_texture(rng, height, width), meta

    def _draw_mask(self, rng: np.random.Generator, height: int, width: int) -> Mask:
        for _ in range(self.retry_empty + 1):
            mask: Mask = draw_noise(rng, height, width, self.rotate_mask) > _THRESHOLD
            if mask.any():
                break
        return mask


def draw_noise(rng: np.random.Generator, height: int, width: int, rotated: bool = True) -> Field:
    """Draw Perlin noise with 2^a x 2^b cells, a and b in 0 to 5, and rotate it by -90 to 90 degrees, filled with 0."""
    lattice = (1 << int(rng.integers(_LATTICES)), 1 << int(rng.integers(_LATTICES)))
    noise = perlin_noise(rng, height, width, lattice)
    if not rotated:
        return noise
    picture = Image.fromarray(noise.astype(np.float32))
    return np.asarray(picture.rotate(float(rng.uniform(-90, 90)), Image.Resampling.BILINEAR))


def blend_texture(image: Pixels, texture: Pixels, mask: Mask, beta: float) -> Pixels:
    """Return (1 - beta) texture + beta image inside the mask, and the image outside."""
    edited = image.copy()
    edited[mask] = to_pixels((1 - beta) * texture[mask] + beta * image[mask])
    return edited
