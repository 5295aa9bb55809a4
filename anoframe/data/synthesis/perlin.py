"""Perlin noise (Perlin, SIGGRAPH 2002): smooth random fields in [-1, 1]."""

from __future__ import annotations

import math

import numpy as np

from anoframe.data.synthesis.base import Field


def perlin_noise(rng: np.random.Generator, height: int, width: int, lattice: tuple[int, int]) -> Field:
    """Draw Perlin noise with random unit gradients on a lattice.

    Sides that are no power of two are the part [:height, :width] of the noise on the next larger powers of two, where
    the cells of the lattice are whole pixels.

    Args:
        rng: random generator.
        height: of the result in pixels.
        width: of the result in pixels.
        lattice: number of cells along height and width of the padded size, powers of two.

    Returns:
        float64 [height, width]; 0 at the nodes of the lattice.
    """
    angles = rng.uniform(0, 2 * np.pi, (lattice[0] + 1, lattice[1] + 1))
    row, y = _lattice_position(height, lattice[0])
    column, x = _lattice_position(width, lattice[1])
    y, x = y[:, None], x[None]
    fade_y, fade_x = _fade(y), _fade(x)
    sines, cosines = np.sin(angles), np.cos(angles)

    def corner(down: int, right: int) -> Field:
        """Dot product of the gradient at a corner of the cell with the offset from it, [height, width]."""
        sine, cosine = (values.take(row + down, axis=0).take(column + right, axis=1) for values in (sines, cosines))
        product: Field = sine * (y - down) + cosine * (x - right)
        return product

    top_left, bottom_left = corner(0, 0), corner(1, 0)
    top = top_left + fade_x * (corner(0, 1) - top_left)
    bottom = bottom_left + fade_x * (corner(1, 1) - bottom_left)
    noise: Field = math.sqrt(2) * (top + fade_y * (bottom - top))
    return noise


def _lattice_position(length: int, cells: int) -> tuple[np.ndarray, Field]:
    """Return for each pixel its cell and its position in the cell, in [0, 1)."""
    padded = max(1 << (length - 1).bit_length(), cells)
    position = np.arange(length) * (cells / padded)
    cell = position.astype(int)
    return cell, position - cell


def _fade(t: Field) -> Field:
    """Return 6 t^5 - 15 t^4 + 10 t^3, which has zero slope and curvature at 0 and 1."""
    return t**3 * (t * (6 * t - 15) + 10)
