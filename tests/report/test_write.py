"""Writing the pictures of a category and their index."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest
from PIL import Image

from anoframe.data.cached_reader import Reader
from anoframe.data.preprocessing import Preprocessing
from anoframe.evaluation.predictions import CategoryPredictions
from anoframe.report.write import write_category_pictures
from anoframe.types import Sample
from anoframe.utils import files

SIDE = 16


def write(folder, names, count=12, warn=None):
    """Write pictures of good test images with these names; return the index."""
    for i, name in enumerate(names):
        Image.new("RGB", (SIDE, SIDE), (40 * i, 0, 0)).save(folder / name)
    samples = [Sample(folder / name, "felt", "test") for name in names]
    for path in [sample.image for sample in samples if sample.image.stem == "gone"]:
        path.unlink()
    maps = np.random.default_rng(0).random((len(names), SIDE, SIDE), np.float32)
    predictions = CategoryPredictions(
        samples, np.zeros(len(names), bool), maps.max((1, 2)), maps, np.zeros(maps.shape, bool), {}
    )
    reader = Reader(Preprocessing(SIDE, SIDE))
    write_category_pictures(folder / "run", "felt", predictions, reader, count, None, warn)
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


@pytest.mark.parametrize("stem", ["k" * 250, "a\\b", "a\nb", b"caf\xe9"])
def test_a_name_that_no_picture_can_have_is_changed(tmp_path, stem):
    name = f"{os.fsdecode(stem)}.png"
    try:
        index = write(tmp_path, [name, "0.png"])
    except OSError:
        pytest.skip("this file system does not have such names")
    assert {row["file"] for row in index} == {path.name for path in tmp_path.glob("run/pictures/felt/*.png")}
    assert {row["name"] for row in index} == {f"{tmp_path.name}/{name}", f"{tmp_path.name}/0.png"}


def test_a_picture_that_cannot_be_made_is_left_out_and_counted(tmp_path):
    warnings = []
    index = write(tmp_path, ["0.png", "gone.png", "1.png"], warn=lambda text: warnings.append(text))
    assert [row["name"].split("/")[1] for row in index if row["name"].endswith("gone.png")] == []
    assert len(index) == 2
    assert warnings[0].startswith("felt: 1 of 3 pictures are left out: ")
    assert "gone.png" in warnings[0]


def test_a_file_system_with_short_names_gets_short_names(tmp_path, monkeypatch):
    def refuse(path, data, sync=True):
        if len(path.name) > 20:
            raise OSError(errno.ENAMETOOLONG, "File name too long")
        original(path, data, sync)

    original = files.replace_file
    monkeypatch.setattr(files, "replace_file", refuse)
    (row,) = write(tmp_path, ["x" * 40 + ".png"])
    assert row["file"] == "000_worst.png"


def test_without_test_images_there_is_an_empty_index(tmp_path):
    assert write(tmp_path, []) == []
