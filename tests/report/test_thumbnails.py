"""Thumbnails of test images: which, where in the sheet, and what they show."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from anoframe.errors import AnoframeError
from anoframe.evaluation.decision import Threshold
from anoframe.evaluation.predictions import CategoryPredictions
from anoframe.report.sheet_record import read_sheet, sheet_places
from anoframe.report.thumbnails import choose_thumbnails, thumbnail_side, write_thumbnails
from anoframe.types import Sample

SIDE = 48
THRESHOLD = Threshold(0.5, 0.5, 0.01, 9)


def predictions(kinds, scores=None, has_maps=True):
    labels = np.array([kind != "good" for kind in kinds])
    samples = [Sample(Path(f"{kind}/{i:03d}.png"), "felt", "test", kind) for i, kind in enumerate(kinds)]
    maps = np.zeros((len(kinds), SIDE, SIDE), np.float32)
    values = labels.astype(np.float32) if scores is None else np.float32(scores)
    return CategoryPredictions(samples, labels, values, maps if has_maps else None, maps > 1, {})


class Reader:
    """Image `i` has the grey value `2 * i`; those in `broken` cannot be read."""

    def __init__(self, broken=()):
        self.broken = broken

    def image(self, path):
        number = int(path.stem)
        if number in self.broken:
            raise AnoframeError("damaged")
        return SimpleNamespace(pixels=torch.full((3, SIDE, SIDE), 2 * number, dtype=torch.uint8))


def test_every_image_is_in_its_place(tmp_path):
    whole = predictions(["good"] * 13 + ["cut"] * 12)
    write_thumbnails(tmp_path, "felt", whole, Reader())
    sheet = read_sheet(tmp_path / "pictures/felt")
    places = sheet_places(sheet, [(sample.defect, sample.name) for sample in whole.samples])
    assert places == list(range(25))
    picture = np.asarray(Image.open(sheet.path).convert("L")).astype(int)
    side = thumbnail_side(25)
    for i, place in enumerate(places):
        left, top = place % sheet.columns * 2 * side, place // sheet.columns * side
        assert abs(picture[top + side // 2, left + side // 2] - 2 * i) <= 4  # lossy


def test_an_image_that_cannot_be_read_is_left_out(tmp_path):
    whole = predictions(["good"] * 4)
    write_thumbnails(tmp_path, "felt", whole, Reader(broken=(1,)))
    places = sheet_places(read_sheet(tmp_path / "pictures/felt"), [(s.defect, s.name) for s in whole.samples])
    assert places == [0, -1, 1, 2]


def test_a_category_without_test_images_has_no_sheet(tmp_path):
    write_thumbnails(tmp_path, "felt", predictions([]), Reader())
    assert read_sheet(tmp_path / "pictures/felt") is None


def test_a_method_without_maps_has_thumbnails(tmp_path):
    write_thumbnails(tmp_path, "felt", predictions(["good", "cut"], has_maps=False), Reader())
    assert len(read_sheet(tmp_path / "pictures/felt").images) == 2


def test_of_many_images_all_wrong_ones_and_every_type_are_chosen():
    kinds = ["good"] * 500 + ["cut"] * 400 + ["dent"] * 2
    scores = [float(kind != "good") for kind in kinds]
    wrong = [3, 77, 499, 600, 899]
    for i in wrong:
        scores[i] = 1 - scores[i]
    chosen = choose_thumbnails(predictions(kinds, scores), THRESHOLD, 20)
    assert len(chosen) == 20
    assert set(wrong) <= set(chosen)
    assert {kinds[i] for i in chosen} == {"good", "cut", "dent"}
    assert {900, 901} <= set(chosen)
    assert chosen == sorted(chosen)


@pytest.mark.parametrize("count", [1, 83, 200, 1000])
def test_a_sheet_has_a_bounded_number_of_pixels(count):
    assert 32 <= thumbnail_side(count) <= 128
    assert 2 * count * thumbnail_side(count) ** 2 <= 3_100_000


@pytest.mark.parametrize(
    "changes", [{"columns": 0}, {"columns": "4"}, {"images": [{"name": "x"}]}, {"file": "../../x.webp"}, {"images": 3}]
)
def test_a_damaged_index_is_an_error(tmp_path, changes):
    write_thumbnails(tmp_path, "felt", predictions(["good"] * 4), Reader())
    index = tmp_path / "pictures/felt/thumbnails.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | changes))
    with pytest.raises(AnoframeError, match=r"damaged|points outside"):
        read_sheet(tmp_path / "pictures/felt")
