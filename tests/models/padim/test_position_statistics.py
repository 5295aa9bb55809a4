"""Means and covariances in one pass, against numpy on all images at once."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from anoframe.models.padim import statistics
from anoframe.models.padim.statistics import PositionStatistics

CPU = torch.device("cpu")


def vectors_of(seed, images, positions=7, width=6, offset=0.0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator)
    return torch.randn(images, positions, width, generator=generator) @ mixing + offset


def collect(vectors, batch=3):
    result = PositionStatistics(*vectors.shape, CPU)
    for part in vectors.split(batch):
        result.add(part)
    return result


def moments(result):
    parts = result.map(lambda mean, covariance: (mean, covariance))
    return torch.cat([mean for mean, _ in parts]), torch.cat([covariance for _, covariance in parts])


@pytest.fixture(params=[True, False], ids=["sums", "all images"])
def kept(request, monkeypatch):
    """Sums after every four images, or the vectors of all images."""
    monkeypatch.setattr(statistics, "_COLLECTED", 4 if request.param else 1000)
    return request.param


@pytest.mark.parametrize("images", [2, 3, 21, 24, 25])
def test_moments_equal_those_of_numpy(kept, images):
    vectors = vectors_of(0, images)
    result = collect(vectors)
    assert bool(len(result._mean)) == (kept and images > 19)
    mean, covariance = moments(result)
    assert_allclose(mean, vectors.double().mean(0), rtol=1e-12, atol=1e-14)
    expected = [np.cov(vectors[:, p].double().numpy(), rowvar=False) for p in range(7)]
    assert_allclose(covariance, np.array(expected), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("batch", [1, 2, 5, 30])
def test_the_batches_change_no_bit(kept, batch):
    vectors = vectors_of(1, 30)
    for value, expected in zip(moments(collect(vectors, batch)), moments(collect(vectors)), strict=True):
        assert torch.equal(value, expected)


def test_the_number_of_threads_changes_no_bit(kept, monkeypatch):
    monkeypatch.setattr(statistics, "_CHUNK", 2 * 36)  # groups of two positions
    expected, threads = moments(collect(vectors_of(1, 30))), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        values = moments(collect(vectors_of(1, 30)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(value, other) for value, other in zip(values, expected, strict=True))


def test_a_large_constant_costs_no_precision_but_that_of_float32(kept):
    # A constant of 2**16 leaves 7 bits after the point: both sides get the same rounded vectors
    vectors = (vectors_of(2, 30) * 128).round() / 128
    _, covariance = moments(collect(vectors))
    _, shifted = moments(collect(vectors + 2**16))
    assert_allclose(shifted, covariance, rtol=0, atol=1e-9)  # sums of squares would lose 1e-5


def test_memory_does_not_grow_with_the_images_where_sums_are_smaller():
    few, many, more = (PositionStatistics.memory(images, 3136, 100) for images in (150, 1000, 100_000))
    assert few < many == more


@pytest.mark.parametrize("images", [2, 60, 61, 500])
def test_the_stated_memory_is_that_of_the_held_tensors(monkeypatch, images):
    monkeypatch.setattr(statistics, "_CHUNK", 0)
    result = PositionStatistics(images, 11, 6, CPU)
    held = sum(value.numel() * value.element_size() for value in (result._collected, result._mean, result._scatter))
    assert held + torch.get_num_threads() * 8 * 6 * 36 == PositionStatistics.memory(images, 11, 6)
