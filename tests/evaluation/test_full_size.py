"""Anomaly maps at the size of the photographs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from anoframe.data.preprocessing import Preprocessing
from anoframe.evaluation.full_size import restore_size


def random_map(side, seed=0):
    return np.random.default_rng(seed).random((side, side)).astype(np.float32)


@pytest.mark.parametrize("size", [(20, 33), (64, 16), (8, 8), (3, 5)])
def test_without_a_crop_it_is_the_interpolation_of_torch(size):
    anomaly_map = random_map(8)
    expected = torch.nn.functional.interpolate(torch.from_numpy(anomaly_map)[None, None], size, mode="bilinear")[0, 0]
    restored = restore_size(anomaly_map, size, Preprocessing(8, 8, keep_aspect=False))
    assert restored.dtype == np.float32
    assert np.allclose(restored, expected.numpy(), atol=1e-6)


def test_the_map_is_not_changed():
    anomaly_map = random_map(8)
    before = anomaly_map.copy()
    restore_size(anomaly_map, (8, 8), Preprocessing(8, 8))
    assert np.array_equal(anomaly_map, before)


def test_pixels_that_the_crop_has_cut_off_rank_last():
    restored = restore_size(random_map(6), (10, 10), Preprocessing(10, 6))
    assert np.array_equal(restored[2:8, 2:8], random_map(6))
    assert np.isneginf(restored[[0, 1, 8, 9]]).all()
    assert np.isneginf(restored[:, [0, 1, 8, 9]]).all()


@pytest.mark.parametrize(("size", "settings"), [((64, 96), (32, 24)), ((90, 60), (30, 30)), ((101, 75), (50, 37))])
@pytest.mark.parametrize("keep_aspect", [True, False])
def test_a_bright_spot_returns_to_its_place(size, settings, keep_aspect):
    preprocessing = Preprocessing(*settings, keep_aspect=keep_aspect)
    height, width = size
    for row, column in ((height // 2, width // 2), (height // 2 - 9, width // 2 + 11)):
        photo = np.zeros(size, np.uint8)
        photo[row - 3 : row + 4, column - 3 : column + 4] = 255
        anomaly_map = np.asarray(preprocessing.resize_and_crop(Image.fromarray(photo)), np.float32)
        restored = restore_size(anomaly_map, size, preprocessing)
        weights = np.where(np.isneginf(restored), 0, restored).astype(float)
        centre = np.array([(weights * grid).sum() / weights.sum() for grid in np.indices(size)])
        assert np.abs(centre - (row, column)).max() < 0.75
