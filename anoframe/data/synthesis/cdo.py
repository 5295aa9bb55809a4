"""CDO: rectangles of white noise (Cao et al., IEEE TII 2023, and its code of 2025)."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter

from anoframe.data.synthesis.base import Context, Generator, Mask, Pixels, Synthetic, check_choice, check_range
from anoframe.data.synthesis.blending import to_pixels
from anoframe.data.synthesis.boxes import Box
from anoframe.data.synthesis.filters import channel_sum, median_mask

# Sides of the canvas in pixels, on which boxes and noise are drawn before they are resized to the image
_CANVAS = {2025: 1024, 2023: 256}
_ATTEMPTS = 200
_BACKGROUND_LEVELS = (30, 220)  # 2023: darker or brighter grey levels are background
WITH_BACKGROUND = frozenset({"bottle", "hazelnut", "metal_nut", "pill", "screw", "toothbrush", "zipper"})


class CDO(Generator):
    """Replace 0 to 4 rectangles by white noise.

    Boxes and noise are drawn on a canvas and resized to the image, so that the grain of the noise is that of the
    published training; pixels that the boxes do not touch keep their values.

    Args:
        version: `2025`: boxes of 50 to 202 pixels on a canvas of 1024 x 1024. `2023`: boxes of 12 to 48 pixels on 256 x
            256, whose centre is not on the background of seven categories of MVTec AD.
        max_boxes: largest number of boxes; the number is uniform from 0.
        p_anomaly: see `Generator`.
    """

    name = "cdo"
    min_side = 32

    def __init__(self, version: int = 2025, max_boxes: int = 4, p_anomaly: float = 1.0) -> None:
        super().__init__(p_anomaly)
        self.version = check_choice(self.name, "version", version, sorted(_CANVAS))
        self.max_boxes = int(check_range(self.name, "max_boxes", max_boxes, 1, 100))

    def edit(self, image: Pixels, rng: np.random.Generator, context: Context) -> Synthetic:
        side = _CANVAS[self.version]
        background = None
        if self.version == 2023 and context.category in WITH_BACKGROUND:
            background = background_mask(np.asarray(Image.fromarray(image).resize((side, side))))
        boxes = draw_boxes(rng, side, int(rng.integers(self.max_boxes + 1)), background)
        edited, mask = _fill(rng, image, side, boxes)
        meta = {"generator": self.name, "version": self.version, "canvas": side, "boxes": boxes}
        return Synthetic(edited, mask, image, meta=meta)


def draw_boxes(rng: np.random.Generator, side: int, count: int, background: Mask | None = None) -> list[Box]:
    """Draw boxes inside a square canvas; half of a side is uniform in [side // 40, side // 10 - 1].

    Args:
        rng: random generator.
        side: of the canvas in pixels.
        count: number of boxes.
        background: mask of the canvas where no centre of a box may lie; after 200 attempts a box is left out.
    """
    boxes = []
    for _ in range(count):
        for _ in range(_ATTEMPTS):
            half_height, half_width = (int(half) for half in rng.integers(side // 40, side // 10, 2))
            row = int(rng.integers(half_height, side - half_height))
            column = int(rng.integers(half_width, side - half_width))
            if background is None or not background[row, column]:
                boxes.append(Box(row - half_height, column - half_width, 2 * half_height, 2 * half_width))
                break
    return boxes


def background_mask(image: Pixels) -> Mask:
    """Mark dark and bright pixels, after a 7 x 7 median, and all pixels within 9 rows and columns of them."""
    total, (dark, bright) = channel_sum(image), _BACKGROUND_LEVELS
    marked = median_mask((total < 3 * dark) | (total > 3 * bright), 7)
    return maximum_filter(marked, size=19, mode="constant")


def _fill(rng: np.random.Generator, image: Pixels, side: int, boxes: list[Box]) -> tuple[Pixels, Mask]:
    """Fill boxes of the canvas with noise of 0 to 254, and blend it into the image by its coverage of each pixel."""
    if not boxes:
        return image.copy(), np.zeros(image.shape[:2], bool)
    canvas = np.zeros((side, side, 4), np.uint8)  # noise, and 255 inside the boxes
    for box in boxes:
        canvas[box.slices][..., :3] = rng.integers(0, 255, (box.height, box.width, 3), np.uint8)
        canvas[box.slices][..., 3] = 255
    resized = _resize_channels(canvas, *image.shape[:2])
    cover = resized[..., 3:] / 255
    edited = to_pixels(resized[..., :3] + (1 - cover) * image)
    mask = resized[..., 3] > 0
    return np.where(mask[..., None], edited, image), mask


def _resize_channels(canvas: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize each of four channels by itself, with bilinear interpolation and antialiasing."""
    if canvas.shape[:2] == (height, width):
        return canvas
    # RGBA would be weighted by its alpha; the picture shares the memory of the canvas
    picture = Image.frombuffer("CMYK", canvas.shape[1::-1], canvas, "raw", "CMYK", 0, 1)
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
