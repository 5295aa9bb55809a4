"""Tiles: where they lie, their weights, and their images, masks and keys."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from anoframe.data.cached_reader import Reader
from anoframe.data.preprocessing import Preprocessing
from anoframe.data.tiling import TileSample, Tiling, cut_samples
from anoframe.errors import AnoframeError
from anoframe.types import Sample


@st.composite
def cuts(draw):
    """A size, and a tiling that fits into it."""
    size = draw(st.integers(5, 60)), draw(st.integers(5, 60))
    tile = draw(st.integers(2, size[0])), draw(st.integers(2, size[1]))
    return size, Tiling(tile, draw(st.integers(0, min(tile) - 1)))


@settings(max_examples=150, deadline=None)
@given(cuts())
def test_weights_add_up_to_one_and_are_exactly_one_where_a_tile_is_alone(cut):
    size, tiling = cut
    total, count = np.zeros(size), np.zeros(size, int)
    for window, weight in zip(tiling.windows(size), tiling.weights(size), strict=True):
        assert weight.shape == tiling.size
        assert (weight > 0).all()
        total[window.slices] += weight
        count[window.slices] += 1
    assert (count >= 1).all()
    assert np.allclose(total, 1, atol=1e-6)
    assert (total[count == 1] == 1).all()


@settings(max_examples=150, deadline=None)
@given(cuts())
def test_neighbours_share_the_overlap_and_no_tile_could_be_left_out(cut):
    size, tiling = cut
    windows = tiling.windows(size)
    for axis in range(2):
        starts = sorted({window[axis] for window in windows})
        tile, length = tiling.size[axis], size[axis]
        assert (starts[0], starts[-1]) == (0, length - tile)
        assert all(first + tile - second >= tiling.overlap for first, second in pairwise(starts))
        count = len(starts) - 1
        assert count == 0 or (count - 1) * (tile - tiling.overlap) + tile < length


def test_the_weight_falls_linearly_over_the_overlap():
    first, second = (weight[0] for weight in Tiling((1, 6), 0).weights((1, 8)))
    assert np.allclose(second, [0.125, 0.375, 0.625, 0.875, 1, 1])
    assert np.allclose(first, second[::-1])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0,), "data.tile must be a positive whole number"),
        ((8, 8), "data.tile_overlap is from 0 to 7 pixels"),
        (((8, 4), 4), "data.tile_overlap is from 0 to 3 pixels"),
        ((8, -1), "data.tile_overlap is from 0"),
    ],
)
def test_wrong_tiles_are_errors(arguments, text):
    with pytest.raises(AnoframeError, match=text):
        Tiling(*arguments)


def test_a_tile_larger_than_the_image_is_an_error():
    with pytest.raises(AnoframeError, match=r"data.tile 8 x 8 is larger than the images, 4 x 16 \(data.crop\)"):
        Tiling(8).check((4, 16))


@pytest.fixture
def defect(tmp_path):
    """A sample of 24 x 16 noise with a mask."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (24, 16, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    Image.fromarray((rng.random((24, 16)) < 0.5).astype(np.uint8) * 255).save(tmp_path / "a_mask.png")
    return Sample(tmp_path / "a.png", "felt", "test", "cut", tmp_path / "a_mask.png")


def test_tiles_are_parts_of_image_and_mask(defect):
    reader = Reader(Preprocessing((24, 16), (24, 16), False), tiling=Tiling(10, 2))
    image, mask = reader.image(defect.image), reader.mask(defect)
    tiles = reader.cut([defect])
    windows = reader.tiling.windows((24, 16))
    assert len(tiles) == len(windows) == 6
    for tile, window in zip(tiles, windows, strict=True):
        loaded = reader.sample(tile)
        assert loaded.pixels.equal(image.pixels[(slice(None), *window.slices)])
        assert loaded.pixels.is_contiguous()
        assert reader.mask(tile).equal(mask[(slice(None), *window.slices)])
        assert loaded.key == reader.sample_key(tile)
        assert tile.whole == defect
        assert (tile.is_defect, tile.name) == (True, defect.name)
    keys = {reader.sample_key(tile) for tile in tiles}
    assert len(keys) == 6
    assert reader.key(defect.image) not in keys


def test_a_tile_as_large_as_the_image_is_the_image(defect):
    reader = Reader(Preprocessing((24, 16), (24, 16), False), tiling=Tiling((24, 16)))
    assert reader.cut([defect]) == [defect]


def test_tiles_keep_every_field_of_a_sample(defect):
    tiles = cut_samples([defect, defect], 3)
    assert [tile.tile for tile in tiles] == [0, 1, 2] * 2
    assert all(isinstance(tile, TileSample) and tile.whole == defect for tile in tiles)


def test_a_changed_file_has_other_tile_keys(defect):
    reader = Reader(Preprocessing(16, 16, False), tiling=Tiling(8))
    (tile, *_) = reader.cut([defect])
    before = reader.sample_key(tile)
    Image.new("RGB", (24, 17)).save(defect.image)
    assert reader.sample_key(tile) not in (None, before)
