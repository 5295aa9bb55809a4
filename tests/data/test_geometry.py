"""The way back to the photograph, for every EXIF orientation, crop and padding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from anoframe.data.geometry import Frame
from anoframe.data.image_decoding import turn_upright
from anoframe.data.preprocessing import Preprocessing

ORIENTATIONS = range(1, 9)


def random_map(shape, seed=0):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_stored_array_turned_upright_is_the_upright_one(orientation):
    upright = np.random.default_rng(0).integers(0, 256, (5, 8), dtype=np.uint8)
    frame = Frame(Preprocessing(4, 4), 8, 5, orientation)
    stored = frame.to_stored(upright)
    assert stored.shape == frame.size
    assert np.array_equal(np.asarray(turn_upright(Image.fromarray(stored.copy()), orientation)), upright)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(3, 50), st.integers(3, 50)),
    box=st.tuples(st.integers(6, 30), st.integers(6, 30)),
    cut=st.integers(0, 4),
    keep_aspect=st.sampled_from([True, False, "pad"]),
    orientation=st.sampled_from(list(ORIENTATIONS)),
    band=st.integers(1, 60),
)
def test_the_stored_map_is_the_turned_upright_map(size, box, cut, keep_aspect, orientation, band):
    preprocessing = Preprocessing(box, (box[0] - cut, box[1] - cut), keep_aspect)
    anomaly_map = random_map(preprocessing.size)
    upright = Frame(preprocessing, size[1], size[0]).restore(anomaly_map)
    frame = Frame(preprocessing, size[1], size[0], orientation)
    bands = [rows for _, rows in frame.bands(anomaly_map, band)]
    assert np.array_equal(np.concatenate(bands), frame.restore(anomaly_map))
    assert np.allclose(frame.restore(anomaly_map), frame.to_stored(upright), atol=1e-6)


@pytest.mark.parametrize("size", [(40, 90), (90, 40), (41, 73)])
def test_padding_is_not_mixed_into_the_photograph(size):
    preprocessing = Preprocessing((32, 24), (32, 24), "pad")
    counted = preprocessing.counted(size[1], size[0])
    anomaly_map = np.where(counted, 1.0, 1000.0).astype(np.float32)
    assert np.array_equal(Frame(preprocessing, size[1], size[0]).restore(anomaly_map), np.ones(size, np.float32))


@pytest.mark.parametrize("keep_aspect", [True, False, "pad"])
@pytest.mark.parametrize("size", [(200, 120), (120, 200), (150, 150)])
def test_a_spot_returns_to_its_place(size, keep_aspect):
    preprocessing = Preprocessing((64, 48), (60, 40), keep_aspect)
    height, width = size
    photo = np.zeros(size, np.uint8)
    row, column = height // 2 - 9, width // 2 + 7
    photo[row - 4 : row + 5, column - 4 : column + 5] = 255
    anomaly_map = np.asarray(preprocessing.resize_and_crop(Image.fromarray(photo)), np.float32)
    restored = Frame(preprocessing, width, height).restore(anomaly_map)
    weights = np.where(np.isneginf(restored), 0, restored).astype(float)
    centre = [(weights * grid).sum() / weights.sum() for grid in np.indices(size)]
    assert np.abs(np.array(centre) - (row, column)).max() < 1


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("keep_aspect", [True, False, "pad"])
def test_a_point_is_where_the_map_has_it(orientation, keep_aspect):
    preprocessing = Preprocessing((30, 20), (26, 18), keep_aspect)
    frame = Frame(preprocessing, 90, 150, orientation)
    anomaly_map = np.zeros(preprocessing.size, np.float32)
    anomaly_map[12, 7] = 1
    restored = frame.restore(anomaly_map)
    weights = np.where(np.isneginf(restored), 0, restored).astype(float)
    centre = [(weights * (grid + 0.5)).sum() / weights.sum() for grid in np.indices(frame.size)]
    assert np.allclose(frame.point(12.5, 7.5), centre, atol=0.8)


def test_cut_off_pixels_have_no_value():
    frame = Frame(Preprocessing(10, 6), 10, 10)
    restored = frame.restore(random_map((6, 6)))
    assert np.isneginf(restored).sum() == 100 - 36
