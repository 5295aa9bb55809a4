"""Writing the pictures of a category and their index."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from anoframe.data.cached_reader import Reader
from anoframe.data.preprocessing import Preprocessing
from anoframe.evaluation.predictions import CategoryPredictions
from anoframe.report.write import write_category_pictures
from anoframe.types import Sample

SIDE = 16


def write(folder, names, count=12):
    """Write pictures of good test images with these names; return the index."""
    for i, name in enumerate(names):
        Image.new("RGB", (SIDE, SIDE), (40 * i, 0, 0)).save(folder / name)
    samples = [Sample(folder / name, "felt", "test") for name in names]
    maps = np.random.default_rng(0).random((len(names), SIDE, SIDE), np.float32)
    predictions = CategoryPredictions(
        samples, np.zeros(len(names), bool), maps.max((1, 2)), maps, np.zeros(maps.shape, bool), {}
    )
    write_category_pictures(folder / "run", "felt", predictions, Reader(Preprocessing(SIDE, SIDE)), count)
    return json.loads((folder / "run/pictures/felt/pictures.json").read_text())


def test_index_describes_each_picture(tmp_path):
    (index,) = write(tmp_path, ["0.png"])
    assert (index["kind"], index["defect"], index["name"]) == ("worst", "good", f"{tmp_path.name}/0.png")


def test_pictures_of_the_index_exist(tmp_path):
    index = write(tmp_path, ["0.png", "1.png", "2.png"])
    assert {row["file"] for row in index} == {path.name for path in tmp_path.glob("run/pictures/felt/*.png")}


def test_picture_is_a_strip_of_four_panels(tmp_path):
    (index,) = write(tmp_path, ["0.png"])
    with Image.open(tmp_path / "run/pictures/felt" / index["file"]) as picture:
        assert picture.size == (4 * SIDE + 3 * 4, SIDE)


@pytest.mark.parametrize("names", [["0.png", "0.bmp"], ["0.png", "0.bmp", "1.png", "1.bmp"]])
def test_images_that_differ_in_their_suffix_have_their_own_pictures(tmp_path, names):
    files = [row["file"] for row in write(tmp_path, names)]
    assert len(set(files)) == len(names)
