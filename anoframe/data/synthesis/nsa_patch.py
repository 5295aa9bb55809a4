"""Patches of NSA: their size, their source in another image, and their place in the edited image.

Schlueter et al., ECCV 2022, section 3, with the details of the official code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from anoframe.data.synthesis.base import Field, Mask, Pixels, resize_pixels
from anoframe.data.synthesis.boxes import Box, place_box
from anoframe.data.synthesis.filters import channel_sum, median_mask
from anoframe.data.synthesis.nsa_classes import NsaClass

ATTEMPTS = 200  # places that are tried for a patch with enough object pixels
MIN_OVERLAP = 0.25  # of the object pixels of a patch, the share that must lie on the object of the edited image
_OBJECT_RESIZE, _TEXTURE_RESIZE = (0.7, 1.3), (0.5, 2.0)
_GAMMA_SHAPE, _GAMMA_SCALE, _OFFSET = 2.0, 0.05, 0.03


@dataclass(frozen=True)
class Patch:
    """A patch and its place.

    Args:
        pixels: from another image, at their new size, uint8 [h, w, 3].
        blend: pixels that belong to an object in the patch or at its place, [h, w]; all without a background rule.
        source: box in the other image, before resizing.
        target: box in the edited image, of size [h, w].
    """

    pixels: Pixels
    blend: Mask
    source: Box
    target: Box


def draw_patches(
    rng: np.random.Generator, image: Pixels, other: Pixels, settings: NsaClass, resize: bool = True, shift: bool = True
) -> list[Patch]:
    """Draw the patches of an image: the first one, and each further one with probability 1/2.

    A patch for which no place fulfils the background rule in 200 attempts is left out.

    Args:
        rng: random generator.
        image: to be edited, [H, W, 3].
        other: the source, of the same shape.
        settings: of the category.
        resize: change the size of a patch.
        shift: draw a new place; otherwise a patch stays at the place of its source, and is not resized.
    """
    count = 1 + int(rng.binomial(settings.max_patches - 1, 0.5))
    objects = other_objects = np.ones(image.shape[:2], bool)
    if settings.background:
        objects, other_objects = (object_mask(pixels, *settings.background) for pixels in (image, other))
    patches = (_draw_patch(rng, objects, other, other_objects, settings, resize and shift, shift) for _ in range(count))
    return [patch for patch in patches if patch is not None]


def _draw_patch(
    rng: np.random.Generator,
    objects: Mask,
    other: Pixels,
    other_objects: Mask,
    settings: NsaClass,
    resize: bool,
    shift: bool,
) -> Patch | None:
    source = _draw_source(rng, other_objects, settings)
    if source is None:
        return None
    pixels, patch_objects = other[source.slices], other_objects[source.slices]
    if resize:
        height, width = draw_new_size(rng, source, objects.shape, settings)
        pixels = resize_pixels(pixels, height, width)
        levels = Image.fromarray(patch_objects.astype(np.uint8))
        patch_objects = np.asarray(levels.resize((width, height), Image.Resampling.NEAREST)) > 0
    target = _draw_target(rng, objects, patch_objects, settings) if shift else source
    if target is None:
        return None
    return Patch(pixels, patch_objects | objects[target.slices], source, target)


def object_mask(image: Pixels, brightness: float, threshold: float) -> Mask:
    """Mark pixels that differ from the brightness of the background by more than a threshold, after a 7 x 7 median."""
    return median_mask(np.abs(channel_sum(image) - 3 * brightness) > 3 * threshold, 7)


def draw_half_side(rng: np.random.Generator, length: int, bounds: tuple[float, float]) -> int:
    """Draw half of a side of a patch in pixels: (0.03 + Gamma(2, 0.05)) of the image side, clipped to the bounds."""
    low, high = pixel_bounds(length, bounds)
    return int(np.clip((_OFFSET + rng.gamma(_GAMMA_SHAPE, _GAMMA_SCALE)) * length, low, high))


def pixel_bounds(length: int, bounds: tuple[float, float]) -> tuple[int, int]:
    """Return bounds in pixels of an image side; the smallest is at least 1."""
    low, high = (max(1, round(share * length)) for share in bounds)
    return low, high


def _draw_source(rng: np.random.Generator, objects: Mask, settings: NsaClass) -> Box | None:
    """Draw a box with enough object pixels, clipped to the image; None if 200 places have too few."""
    halves, centres = [], []
    attempts = ATTEMPTS if settings.background else 1
    for length, bounds in zip(objects.shape, (settings.height, settings.width), strict=True):
        low, _ = pixel_bounds(length, bounds)
        halves.append(draw_half_side(rng, length, bounds))
        centres.append(rng.integers(low, length - low, attempts))
    starts = [np.maximum(centre - half, 0) for centre, half in zip(centres, halves, strict=True)]
    ends = [
        np.minimum(centre + half, length) for centre, half, length in zip(centres, halves, objects.shape, strict=True)
    ]
    (top, left), (bottom, right) = starts, ends
    if settings.background:
        areas = (bottom - top) * (right - left)
        accepted = np.flatnonzero(_box_sums(objects, top, bottom, left, right) / areas > settings.min_object)
        if not len(accepted):
            return None
        first = accepted[0]
    else:
        first = 0
    return Box(int(top[first]), int(left[first]), int((bottom - top)[first]), int((right - left)[first]))


def _box_sums(mask: Mask, top: Field, bottom: Field, left: Field, right: Field) -> Field:
    """Count the True pixels in N boxes [top:bottom, left:right] by an integral image; bounds are integer arrays [N]."""
    integral = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    integral[1:, 1:] = mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    counts: Field = integral[bottom, right] - integral[top, right] - integral[bottom, left] + integral[top, left]
    return counts


def draw_new_size(rng: np.random.Generator, source: Box, shape: tuple[int, ...], settings: NsaClass) -> tuple[int, int]:
    """Draw the new height and width of a patch, with nearly the same aspect ratio.

    As in the official code, the sides are clipped to the bounds of *half* sides.
    """
    scale = np.clip(rng.normal(1, 0.5), *(_TEXTURE_RESIZE if settings.is_texture else _OBJECT_RESIZE))
    rows, columns = pixel_bounds(shape[0], settings.height), pixel_bounds(shape[1], settings.width)
    height = np.clip(scale * source.height, *rows)
    width = int(np.clip(int(height / source.height * source.width), *columns))
    return int(np.clip(int(width / source.width * source.height), *rows)), width


def _draw_target(rng: np.random.Generator, objects: Mask, patch_objects: Mask, settings: NsaClass) -> Box | None:
    """Draw a place where the object of the patch overlaps that of the image; None if 200 places do not."""
    height, width = patch_objects.shape
    if not settings.background:
        return place_box(rng, height, width, objects.shape)
    count = np.count_nonzero(patch_objects)
    if count <= settings.min_object * patch_objects.size:
        return None
    for _ in range(ATTEMPTS):
        target = place_box(rng, height, width, objects.shape)
        if np.count_nonzero(objects[target.slices] & patch_objects) > MIN_OVERLAP * count:
            return target
    return None
