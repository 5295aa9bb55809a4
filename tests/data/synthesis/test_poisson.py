"""Poisson editing: exact properties of the discrete equation (G10 to G13 of the method sheet)."""

from __future__ import annotations

import numpy as np
import pytest

from anoframe.data.synthesis.poisson import poisson_edit
from anoframe.errors import AnoframeError

NEIGHBOURS = ((-1, 0), (1, 0), (0, -1), (0, 1))


def rectangle(shape=(24, 30)):
    region = np.zeros(shape, bool)
    region[3:20, 5:28] = True
    return region


def irregular(shape=(24, 30)):
    """A disc with a hole, and a single pixel apart from it."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    distance = np.hypot(y - 11, x - 13)
    region = (distance < 9) & (distance > 2)
    region[20, 27] = True
    return region


REGIONS = pytest.mark.parametrize("region", [rectangle(), irregular()], ids=["rectangle", "irregular"])
GRADIENTS = pytest.mark.parametrize("gradients", ["normal", "mixed"])


def noise(seed, shape=(24, 30, 3)):
    return np.random.default_rng(seed).uniform(0, 255, shape)


def residual(solution, target, source, region, gradients):
    """Left minus right side of the equation in each pixel of the region, written pixel by pixel."""
    errors = []
    for row, column in np.argwhere(region):
        for channel in range(target.shape[2]):
            error = 0.0
            for down, right in NEIGHBOURS:
                p, q = (row, column, channel), (row + down, column + right, channel)
                error += solution[p] - solution[q]  # outside of the region the solution is the target
                guidance = source[p] - source[q]
                if gradients == "mixed" and abs(target[p] - target[q]) > abs(guidance):
                    guidance = target[p] - target[q]
                error -= guidance
            errors.append(error)
    return np.array(errors)


@REGIONS
@GRADIENTS
def test_the_solution_satisfies_the_discrete_equation(region, gradients):
    target, source = noise(0), noise(1)
    solution = poisson_edit(target, source, region, gradients)
    assert np.array_equal(solution[~region], target[~region])
    assert np.abs(residual(solution, target, source, region, gradients)).max() < 1e-9


@REGIONS
@GRADIENTS
def test_cloning_an_image_onto_itself_returns_it(region, gradients):
    target = noise(0)
    assert np.abs(poisson_edit(target, target, region, gradients) - target).max() < 1e-9


@REGIONS
@GRADIENTS
def test_a_constant_added_to_the_source_changes_nothing(region, gradients):
    target, source = noise(0), noise(1)
    difference = poisson_edit(target, source + 50, region, gradients) - poisson_edit(target, source, region, gradients)
    assert np.abs(difference).max() < 1e-9


@REGIONS
def test_a_constant_source_gives_a_harmonic_fill_or_the_target(region):
    target, flat = noise(0), np.full((24, 30, 3), 7.0)
    filled = poisson_edit(target, flat, region)
    assert filled[region].min() > target[~region].min()
    assert filled[region].max() < target[~region].max()
    row, column = 6, 18  # inside both regions, as are its neighbours
    around = [filled[row + down, column + right] for down, right in NEIGHBOURS]
    assert region[row, column]
    assert np.abs(filled[row, column] - np.mean(around, axis=0)).max() < 1e-9
    assert np.abs(poisson_edit(target, flat, region, "mixed") - target).max() < 1e-9


def test_a_ramp_into_a_constant_target():
    ramp = np.mgrid[:24, :30][1][..., None] * 3.0
    flat = np.full((24, 30, 1), 50.0)
    solution = poisson_edit(flat, ramp, rectangle())
    assert np.abs(residual(solution, flat, ramp, rectangle(), "normal")).max() < 1e-9
    assert np.abs(solution - 50).max() < 1e-9  # the divergence of a ramp is zero, as is the difference at the border


def test_both_solvers_agree():
    """A rectangle with one pixel less is solved by factorisation; the pixel is then given its former value."""
    target, source, full = noise(0), noise(1), rectangle()
    solution = poisson_edit(target, source, full)
    fewer = full.copy()
    fewer[8, 9] = False
    fixed = target.copy()
    fixed[8, 9] = solution[8, 9]
    assert np.abs(poisson_edit(fixed, source, fewer) - solution).max() < 1e-9


def test_an_empty_region_returns_the_target():
    target = noise(0)
    assert np.array_equal(poisson_edit(target, noise(1), np.zeros((24, 30), bool)), target)


def test_wrong_arguments_are_errors():
    target, border = noise(0), np.zeros((24, 30), bool)
    border[0, 5] = True
    with pytest.raises(AnoframeError, match="touches the border"):
        poisson_edit(target, target, border)
    with pytest.raises(AnoframeError, match="one shape"):
        poisson_edit(target, target[:10], rectangle())
    with pytest.raises(AnoframeError, match="gradients"):
        poisson_edit(target, target, rectangle(), "strong")
