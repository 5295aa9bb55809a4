"""Synthetic defects of the demo data: four types, each drawn on a grey tile, with its exact mask.

Each type is a function `(tile, foreign, rng) -> (tile, mask)`: tiles are uint8 [H, W], the mask is bool [H, W], and
`foreign` is a tile of another texture. Pixels outside the mask stay equal to the bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Grey = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Field = NDArray[np.floating[Any]]  # [H, W]

_MIN_COVERAGE = 0.1  # pixels with less coverage are not drawn, so that the mask has no invisible border


def scratch(tile: Grey, foreign: Grey, rng: np.random.Generator) -> tuple[Grey, Mask]:
    """Draw a thin curved line, as bright as bare metal."""
    size = len(tile)
    ends = rng.uniform(0.15, 0.85, (2, 2)) * size
    while np.hypot(*(ends[0] - ends[1])) < size * 0.35:
        ends = rng.uniform(0.15, 0.85, (2, 2)) * size
    bend = ends.mean(axis=0) + rng.uniform(-0.15, 0.15, 2) * size
    t = np.linspace(0, 1, 40)[:, None]
    line = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * bend + t**2 * ends[1]  # quadratic Bezier curve
    cover = _draw_line(size, line, width=rng.uniform(2.5, 4.5))
    return _blend(tile, np.full(tile.shape, 250.0), cover * rng.uniform(0.75, 1.0))


def stain(tile: Grey, foreign: Grey, rng: np.random.Generator) -> tuple[Grey, Mask]:
    """Draw a soft dark spot like oil, through which the surface remains visible."""
    cover = _blur(_draw_blob(len(tile), rng, radius=rng.uniform(0.1, 0.2)), sigma=3.0)
    return _blend(tile, tile * 0.1, cover * rng.uniform(0.7, 0.95))


def hole(tile: Grey, foreign: Grey, rng: np.random.Generator) -> tuple[Grey, Mask]:
    """Draw a hole with a hard edge that shows the texture of another photograph."""
    cover = _draw_blob(len(tile), rng, radius=rng.uniform(0.1, 0.18))
    return _blend(tile, foreign * rng.uniform(0.6, 0.9), cover)


def bulge(tile: Grey, foreign: Grey, rng: np.random.Generator) -> tuple[Grey, Mask]:
    """Magnify and rotate a round area: only the geometry of the surface changes."""
    size = len(tile)
    radius = rng.uniform(0.2, 0.28) * size
    centre = rng.uniform(radius, size - radius, 2)
    y, x = np.mgrid[:size, :size] - centre[:, None, None]
    distance = np.hypot(x, y) / radius
    inside = np.clip(1 - distance, 0, 1)
    shrink = 1 - rng.uniform(0.55, 0.75) * inside**0.7
    angle = rng.choice([-1.0, 1.0]) * rng.uniform(0.4, 0.9) * inside
    source_y = centre[0] + shrink * (y * np.cos(angle) - x * np.sin(angle))
    source_x = centre[1] + shrink * (y * np.sin(angle) + x * np.cos(angle))
    return _blend(tile, _sample_bilinear(tile, source_y, source_x), (distance < 1).astype(float))


DEFECTS = {"scratch": scratch, "stain": stain, "hole": hole, "bulge": bulge}


def _blend(tile: Grey, overlay: Field, cover: Field) -> tuple[Grey, Mask]:
    """Blend an overlay into the tile with coverage in [0, 1]; the mask is where the coverage is visible."""
    mask = cover >= _MIN_COVERAGE
    blended = np.rint(tile * (1 - cover) + overlay * cover).clip(0, 255).astype(np.uint8)
    return np.where(mask, blended, tile), mask


def _draw_line(size: int, line: Field, width: float) -> Field:
    """Draw a line through points [N, (y, x)] as coverage in [0, 1], anti-aliased by drawing at four times the size."""
    canvas = Image.new("L", (size * 4, size * 4))
    points = [(float(x) * 4, float(y) * 4) for y, x in line]
    ImageDraw.Draw(canvas).line(points, fill=255, width=round(width * 4), joint="curve")
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX)) / 255


def _draw_blob(size: int, rng: np.random.Generator, radius: float) -> Field:
    """Draw an irregular round shape as coverage in [0, 1]; `radius` is relative to the side of the tile."""
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    outline = np.ones_like(angles)
    for waves in (2, 3, 5):
        outline += rng.uniform(0.05, 0.2) / waves**0.5 * np.sin(waves * angles + rng.uniform(0, 2 * np.pi))
    centre = rng.uniform(radius * 1.3, 1 - radius * 1.3, 2)
    points = (centre + radius * outline[:, None] * np.stack([np.sin(angles), np.cos(angles)], axis=1)) * size
    canvas = Image.new("L", (size * 4, size * 4))
    ImageDraw.Draw(canvas).polygon([(float(x) * 4, float(y) * 4) for y, x in points], fill=255)
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX)) / 255


def _blur(cover: Field, sigma: float) -> Field:
    picture = Image.fromarray(np.rint(cover * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(sigma))
    return np.asarray(picture) / 255


def _sample_bilinear(tile: Grey, y: Field, x: Field) -> Field:
    """Interpolate the tile at coordinates y, x [H, W], which lie inside of it."""
    top, left = (np.clip(np.floor(position).astype(int), 0, len(tile) - 2) for position in (y, x))
    down, right = y - top, x - left
    upper = tile[top, left] * (1 - right) + tile[top, left + 1] * right
    lower = tile[top + 1, left] * (1 - right) + tile[top + 1, left + 1] * right
    return upper * (1 - down) + lower * down
