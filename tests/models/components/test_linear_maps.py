"""Matrices of resizing and smoothing against torch's operations."""

import pytest
import torch
from torch.nn import functional as F

from anoframe.models.components.anomaly_map import gaussian_blur, upsample
from anoframe.models.components.linear_maps import (
    blur_matrix,
    cubic_matrix,
    pooling_matrix,
    resize_matrix,
    smoothing_matrix,
    transform,
)

SIZES = [(7, 5), (28, 224), (1, 9), (12, 12), (30, 17)]


def maps_of(height, width, count=2):
    return torch.rand(count, height, width, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_resizing_equals_interpolate(source, target, align_corners):
    maps = maps_of(source, 6)
    rows, columns = resize_matrix(source, target, align_corners), resize_matrix(6, 11, align_corners)
    expected = upsample(maps, (target, 11), align_corners)
    torch.testing.assert_close(transform(maps, rows, columns), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("source", "middle", "target"), [(360, 1024, 512), (1008, 1024, 512), (45, 16, 16), (7, 12, 4)]
)
def test_pooling_equals_adaptive_and_average_pooling(source, middle, target):
    lines = maps_of(5, source)
    expected = F.avg_pool1d(F.adaptive_avg_pool1d(lines, middle), middle // target)
    matrix = torch.from_numpy(pooling_matrix(source, middle, target)).float()
    torch.testing.assert_close(lines @ matrix.T, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, 0.7, 4.0, 20.0])
def test_smoothing_equals_the_convolution_also_on_lines_shorter_than_the_kernel(sigma):
    maps = maps_of(9, 31)
    expected = gaussian_blur(maps, sigma)
    torch.testing.assert_close(transform(maps, blur_matrix(9, sigma), blur_matrix(31, sigma)), expected)


def test_one_pair_of_matrices_resizes_and_smooths():
    maps = maps_of(8, 6)
    expected = gaussian_blur(upsample(maps, (32, 40)), 4.0)
    result = transform(maps, smoothing_matrix(8, 32, 4.0), smoothing_matrix(6, 40, 4.0))
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("source", "target"), [(64, 16), (48, 16), (17, 10)])
def test_bicubic_reduction_equals_interpolate_with_antialiasing(source, target):
    images = maps_of(source, source)[:, None]
    expected = F.interpolate(images, (target, target), mode="bicubic", antialias=True)
    matrix = cubic_matrix(source, target)
    torch.testing.assert_close(transform(images, matrix, matrix), expected, rtol=1e-4, atol=1e-5)
