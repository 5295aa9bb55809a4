"""Ignored regions: masks and polygons, their frames, and errors."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from anoframe.data.cached_reader import Reader, count_pixels
from anoframe.data.ignored import IgnoredRegion, read_ignored
from anoframe.data.preprocessing import Preprocessing
from anoframe.data.tiling import Tiling
from anoframe.errors import AnoframeError
from anoframe.types import Sample

SQUARE = [[0.25, 0.5], [0.75, 0.5], [0.75, 1], [0.25, 1]]


def save(path, tree):
    path.write_text(json.dumps(tree), encoding="utf-8")
    return str(path)


def rectangle_mask(height, width, rows, columns):
    mask = np.zeros((height, width), bool)
    mask[rows, columns] = True
    return mask


def test_a_polygon_covers_the_pixels_whose_centres_it_contains(tmp_path):
    (region,) = read_ignored(save(tmp_path / "a.json", {"felt": [SQUARE], "mesh": []}), ["felt"]).values()
    drawn = region.draw(40, 20)
    inner = drawn[11:, 11:29]
    assert inner.all()
    outside = ~rectangle_mask(20, 40, slice(9, None), slice(9, 31))
    assert not drawn[outside].any()


def test_a_mask_is_stretched_to_the_photograph(tmp_path):
    mask = rectangle_mask(4, 8, slice(0, 2), slice(4, 8))
    Image.fromarray(mask).save(tmp_path / "felt.png")
    region = read_ignored(str(tmp_path), ["felt", "mesh"])["felt"]
    assert np.array_equal(region.draw(80, 40), rectangle_mask(40, 80, slice(0, 20), slice(40, 80)))
    assert np.array_equal(IgnoredRegion.from_json(region.to_json(), "x").draw(8, 4), mask)


def test_one_mask_is_for_every_category(tmp_path):
    Image.fromarray(np.ones((2, 2), bool)).save(tmp_path / "any.png")
    assert set(read_ignored(str(tmp_path / "any.png"), ["felt", "mesh"])) == {"felt", "mesh"}


def test_a_partly_ignored_pixel_is_ignored():
    region = IgnoredRegion((((0.0, 0.0), (0.3, 0.0), (0.3, 1.0), (0.0, 1.0)),))
    small = region.preprocessed(100, 100, Preprocessing(10, 10, False))
    assert small[:, :3].all()
    assert not small[:, 5:].any()


def test_counted_pixels_are_neither_padding_nor_ignored():
    preprocessing = Preprocessing(20, 20, "pad")
    region = IgnoredRegion((((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)),))
    counted = count_pixels(40, 20, preprocessing, region)
    assert not counted[:5].any()
    assert not counted[15:].any()
    assert not counted[:, :9].any()
    assert counted[5:15, 12:].all()


def test_a_reader_returns_the_counted_pixels_of_tiles(tmp_path):
    Image.new("RGB", (40, 20)).save(tmp_path / "a.png")
    reader = Reader(Preprocessing(20, 20, "pad"), tiling=Tiling(12, 4))
    sample = Sample(tmp_path / "a.png", "felt", "test")
    whole, tiles = reader.counted([sample]), reader.counted(reader.cut([sample]))
    for tile, window in zip(tiles, reader.tiling.windows((20, 20)), strict=True):
        assert tile.equal(whole[0][(slice(None), *window.slices)])


def test_without_padding_and_regions_every_pixel_counts(tmp_path):
    assert Reader(Preprocessing(20, 20)).counted([Sample(tmp_path / "none.png", "felt", "test")]) is None
    other = Reader(Preprocessing(20, 20), ignored={"mesh": IgnoredRegion()})
    assert other.counted([Sample(tmp_path / "none.png", "felt", "test")]) is None


def test_a_region_that_leaves_nothing_is_an_error():
    everything = IgnoredRegion((((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)),))
    with pytest.raises(AnoframeError, match=r"data\.ignore leaves no pixel of an image of 30 x 20"):
        count_pixels(30, 20, Preprocessing(8, 8), everything)


def test_no_file_ignores_nothing():
    assert read_ignored(None, ["felt"]) == {}


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ([SQUARE], "category -> list of polygons"),
        ({"felt": [SQUARE[:2]]}, "felt: a JSON file holds polygons"),
        ({"felt": [[[0, 0], [1, 0], [2, 2]]]}, "from 0 to 1"),
        ({"felt": [[[0, 0], [1, 0], [1]]]}, "from 0 to 1"),
        ({"felt": []}, "no polygon"),
        ({"flet": [SQUARE]}, "did you mean 'flet'"),
    ],
)
def test_wrong_polygons_are_errors(tmp_path, tree, text):
    with pytest.raises(AnoframeError, match=text):
        read_ignored(save(tmp_path / "a.json", tree), ["felt"])


def test_an_empty_mask_and_two_regions_are_errors(tmp_path):
    Image.fromarray(np.zeros((2, 2), bool)).save(tmp_path / "felt.png")
    with pytest.raises(AnoframeError, match="marks no pixel to ignore"):
        read_ignored(str(tmp_path), ["felt"])
    save(tmp_path / "felt.json", [SQUARE])
    with pytest.raises(AnoframeError, match="keep one region per category"):
        read_ignored(str(tmp_path), ["felt"])


def test_the_hash_tells_regions_apart():
    regions = [IgnoredRegion(), IgnoredRegion((((0, 0), (1, 0), (1, 1)),)), IgnoredRegion(png=b"x")]
    assert len({region.hash for region in regions}) == 3
