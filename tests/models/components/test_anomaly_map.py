"""Upsampling and smoothing of anomaly maps, against scipy and a loop over pixels."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter

from anoframe.models.components.anomaly_map import gaussian_blur, upsample

SIGMAS = [0.05, 0.5, 1.0, 2.3, 4.0, 6.0]


def scipy_blur(maps, sigma):
    blurred = [gaussian_filter(image.numpy(), sigma, mode="reflect", truncate=4.0) for image in maps]
    return torch.stack([torch.from_numpy(image) for image in blurred])


def naive_bilinear(image, height, width):
    """Interpolate pixel by pixel: half-pixel centres, clamped at the border."""
    rows, columns = image.shape
    out = torch.empty(height, width, dtype=image.dtype)
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * rows / height - 0.5, 0), rows - 1)
            x = min(max((j + 0.5) * columns / width - 0.5, 0), columns - 1)
            top, left = math.floor(y), math.floor(x)
            bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
            above = image[top, left] * (1 - (x - left)) + image[top, right] * (x - left)
            below = image[bottom, left] * (1 - (x - left)) + image[bottom, right] * (x - left)
            out[i, j] = above * (1 - (y - top)) + below * (y - top)
    return out


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("shape", [(40, 56), (7, 5), (1, 9), (1, 1)])  # also shorter than the kernel
def test_blur_equals_scipy(sigma, shape, rng):
    maps = torch.rand(3, *shape, generator=rng, dtype=torch.float64)
    assert_allclose(gaussian_blur(maps, sigma), scipy_blur(maps, sigma), atol=1e-12, rtol=0)


def test_blur_of_a_float32_map_at_224_equals_scipy(rng, device):
    maps = 5 * torch.rand(1, 224, 224, generator=rng)
    assert_allclose(gaussian_blur(maps.to(device), 4.0).cpu(), scipy_blur(maps, 4.0), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("sigma", "taps"), [(4.0, 33), (1.0, 9), (0.5, 5)])
def test_blur_is_truncated_at_four_sigma(sigma, taps):
    impulse = torch.zeros(1, 1, 81, dtype=torch.float64)
    impulse[0, 0, 40] = 1
    assert int((gaussian_blur(impulse, sigma) > 0).sum()) == taps


@settings(max_examples=30, deadline=None)
@given(sigma=st.floats(0, 6), value=st.floats(-100, 100, width=32), height=st.integers(1, 40), width=st.integers(1, 40))
def test_constant_scores_give_a_constant_map(sigma, value, height, width):
    scores = torch.full((2, 4, 3), value, dtype=torch.float64)
    maps = gaussian_blur(upsample(scores, (height, width)), sigma)
    assert_allclose(maps, torch.full((2, height, width), value, dtype=torch.float64), atol=1e-11, rtol=0)


def test_blur_keeps_the_sum_of_an_interior_impulse():
    impulse = torch.zeros(1, 64, 64, dtype=torch.float64)
    impulse[0, 30, 25] = 3
    blurred = gaussian_blur(impulse, 4.0)
    assert float(blurred.sum()) == pytest.approx(3, abs=1e-12)


def test_blur_keeps_the_position_of_an_impulse():
    impulse = torch.zeros(1, 64, 64)
    impulse[0, 30, 25] = 3
    assert int(gaussian_blur(impulse, 4.0).argmax()) == 30 * 64 + 25


def test_blur_keeps_the_sum_of_any_map(rng):
    # borders are mirrored, so values that leave the map come back
    maps = torch.rand(2, 30, 20, generator=rng, dtype=torch.float64)
    assert_allclose(gaussian_blur(maps, 3.0).sum((1, 2)), maps.sum((1, 2)), atol=1e-10, rtol=0)


@pytest.mark.parametrize("sigma", [0, -1.0])
def test_maps_are_unchanged_without_a_positive_sigma(sigma, rng):
    maps = torch.rand(2, 9, 9, generator=rng)
    assert torch.equal(gaussian_blur(maps, sigma), maps)


def test_each_map_of_a_batch_is_blurred_alone(rng):
    maps = torch.rand(5, 33, 47, generator=rng)
    assert torch.equal(gaussian_blur(maps, 4.0), torch.cat([gaussian_blur(image[None], 4.0) for image in maps]))


@pytest.mark.parametrize("size", [(12, 16), (9, 10), (3, 4), (2, 3)])
def test_upsample_equals_bilinear_interpolation_pixel_by_pixel(size, rng):
    scores = torch.rand(2, 3, 4, generator=rng, dtype=torch.float64)
    expected = torch.stack([naive_bilinear(one, *size) for one in scores])
    assert_allclose(upsample(scores, size), expected, atol=1e-14, rtol=0)


def test_upsample_stays_in_the_range_of_the_scores(rng):
    scores = torch.rand(1, 28, 28, generator=rng)
    maps = upsample(scores, (224, 224))
    assert maps.shape == (1, 224, 224)
    assert scores.min() <= maps.min()
    assert maps.max() <= scores.max()
