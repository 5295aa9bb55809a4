"""Predictions of photographs in their own frame: maps, overlays and regions, with EXIF orientation and a crop."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from anoframe.data.ignored import IgnoredRegion
from anoframe.data.image_decoding import turn_upright
from anoframe.data.preprocessing import Preprocessing
from anoframe.data.tiling import Tiling
from anoframe.evaluation.decision import Threshold
from anoframe.models.base import Detector
from anoframe.report.pictures import Scale
from anoframe.runs import predict as predicting
from anoframe.runs import prediction_writer
from anoframe.runs.original_frame import PhotographPrediction
from anoframe.training.checkpoint import Checkpoint
from anoframe.types import Prediction

pytestmark = pytest.mark.slow

GREY, RED = (90, 90, 90), (230, 90, 90)
THRESHOLD = 160.0  # half way between the red values


class Redness(Detector):
    """Its map is the red channel."""

    def __init__(self):
        super().__init__(nn.Identity())
        self.register_buffer("device_of", torch.zeros(1))

    def extract_features(self, images):
        return images.float()

    def compute_prediction(self, features, size):
        return Prediction(features[:, 0].flatten(1).amax(1), features[:, 0])


def checkpoint(preprocessing, tiling=None, ignored=None):
    thresholds = {"felt": Threshold(THRESHOLD, THRESHOLD, 0.01, 20)}
    regions = {"felt": ignored} if ignored else {}
    return Checkpoint(
        Redness(), preprocessing, {"name": "redness"}, 0, {"felt": 1}, thresholds, tiling=tiling, ignored=regions
    )


def photograph(path, width, height, box, orientation):
    """A grey photograph with a red rectangle; `box` is (x, y, width, height) in the stored frame."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = GREY
    x, y, w, h = box
    pixels[y : y + h, x : x + w] = RED
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, compress_level=1)
    return pixels


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Predicts files with a checkpoint; returns the entries of scores.jsonl and the folder."""

    def run(trained, source, **options):
        monkeypatch.setattr(predicting, "find_checkpoint", lambda *_: tmp_path)
        monkeypatch.setattr(predicting, "load_checkpoint", lambda *_: trained)
        monkeypatch.setattr(predicting, "list_notes", lambda _: [])
        output = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        predicting.predict(tmp_path, source, output, "felt", "cpu", **options)
        return [json.loads(line) for line in (output / "scores.jsonl").read_text().splitlines()], output

    return run


@pytest.mark.parametrize("orientation", [6, 3])
def test_a_photograph_of_twelve_megapixels_gets_boxes_map_and_overlay_in_its_own_frame(run, tmp_path, orientation):
    width, height, box = 4000, 3000, (2600, 700, 400, 300)
    pixels = photograph(tmp_path / "a.png", width, height, box, orientation)
    sideways = orientation == 6
    size = (400, 300) if sideways else (300, 400)  # a tenth of the upright photograph
    (entry,), folder = run(checkpoint(Preprocessing(size, size, False)), tmp_path / "a.png")
    assert (entry["width"], entry["height"], entry["orientation"]) == (width, height, orientation)
    assert entry["pixel_threshold"] == THRESHOLD
    (region,) = entry["regions"]
    assert (region["x"], region["y"], region["width"], region["height"]) == box
    assert 0 <= 400 * 300 - region["area"] < 4 * 36  # bilinear: the corners are rounded
    assert region["peak"] == RED[0]
    assert 2600 <= region["peak_x"] < 3000
    assert 700 <= region["peak_y"] < 1000

    values = np.load(folder / entry["map"])
    assert (values.shape, values.dtype) == ((height, width), np.float32)
    differing = np.argwhere((values >= THRESHOLD) != (pixels[..., 0] > THRESHOLD))
    corners = [(row, column) for row in (700, 999) for column in (2600, 2999)]
    assert all(min(np.abs(place - corner).max() for corner in corners) < 12 for place in differing)

    overlay = Image.open(folder / entry["overlay"])
    assert overlay.size == (width, height)
    assert overlay.getexif()[0x0112] == orientation
    drawn = np.asarray(overlay).astype(int)
    outlined = (drawn[..., 0] > 200) & (drawn[..., 1] < 60)
    rows, columns = np.nonzero(outlined)
    found = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
    assert np.abs(np.array(found) - box).max() <= 8  # blocks of JPEG
    assert (drawn[850, 2700:2900].std(0) < 3).all()  # inside, the tint of one value

    rows = list(csv.DictReader((folder / "regions.csv").open()))
    assert [{**rows[0]}] == [{"file": "a.png", "region": "1", **{key: str(value) for key, value in region.items()}}]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing((30, 40), (30, 40), False),
        Preprocessing(32, 28, True),
        Preprocessing(40, 40, "pad"),
        Preprocessing((36, 24), (33, 21), "pad"),
    ],
)
def test_a_square_is_found_for_every_orientation_crop_and_padding(run, tmp_path, orientation, preprocessing):
    box = (70, 50, 30, 24)
    photograph(tmp_path / "a.png", 160, 120, box, orientation)
    (entry,), folder = run(checkpoint(preprocessing), tmp_path / "a.png")
    (region,) = entry["regions"]
    got = (region["x"], region["y"], region["width"], region["height"])
    assert np.abs(np.array(got) - box).max() <= 4  # less than a pixel of the small image
    assert ("orientation" in entry) == (orientation != 1)
    values = np.load(folder / entry["map"])
    upright = turn_upright(Image.fromarray(values >= THRESHOLD), orientation)
    assert upright.size == ((120, 160) if orientation >= 5 else (160, 120))


def test_cut_off_and_ignored_pixels_have_no_value_and_no_region(run, tmp_path):
    photograph(tmp_path / "a.png", 160, 120, (0, 40, 14, 30), 1)  # in the part that the square crop cuts off
    (entry,), folder = run(checkpoint(Preprocessing(40, 40, True)), tmp_path / "a.png")
    values = np.load(folder / entry["map"])
    assert entry["regions"] == []
    assert np.isnan(values[:, :18]).all()  # 6 of 53 pixels of the resized image
    assert np.isfinite(values[:, 19:138]).all()

    left = IgnoredRegion((((0.0, 0.0), (0.25, 0.0), (0.25, 1.0), (0.0, 1.0)),))
    (entry,), folder = run(checkpoint(Preprocessing((30, 40), (30, 40), False), ignored=left), tmp_path / "a.png")
    assert (entry["regions"], entry["defect"], entry["score"]) == ([], False, GREY[0])
    assert np.isnan(np.load(folder / entry["map"])[:, :39]).all()


def test_a_score_does_not_come_from_padding(run, tmp_path):
    photograph(tmp_path / "a.png", 160, 40, (60, 10, 24, 12), 1)
    (entry,), _ = run(checkpoint(Preprocessing(40, 40, "pad")), tmp_path / "a.png")
    assert entry["defect"]
    assert len(entry["regions"]) == 1


def test_tiles_find_the_square_where_it_is(run, tmp_path):
    box = (70, 50, 30, 24)
    photograph(tmp_path / "a.png", 160, 120, box, 1)
    preprocessing = Preprocessing((60, 80), (60, 80), False)
    (entry,), _ = run(checkpoint(preprocessing, Tiling(32, 8)), tmp_path / "a.png")
    (region,) = entry["regions"]
    assert (region["x"], region["y"], region["width"], region["height"]) == box


def test_other_maps(run, tmp_path):
    photograph(tmp_path / "a.png", 160, 120, (70, 50, 30, 24), 6)
    trained = checkpoint(Preprocessing((40, 30), (40, 30), False))
    (entry,), folder = run(trained, tmp_path / "a.png", maps="frame")
    assert np.load(folder / entry["map"]).shape == (40, 30)
    (exact,), exact_folder = run(trained, tmp_path / "a.png")
    (entry,), folder = run(trained, tmp_path / "a.png", maps="png", overlays=False)
    levels = np.asarray(Image.open(folder / entry["map"])).astype(float) / 65535
    values = entry["map_low"] + levels * (entry["map_high"] - entry["map_low"])
    assert np.abs(values - np.load(exact_folder / exact["map"])).max() < 0.01
    assert "overlay" not in entry
    (entry,), folder = run(trained, tmp_path / "a.png", maps="none")
    assert "map" not in entry
    assert len(entry["regions"]) == 1


def test_maps_that_fill_a_disk_are_remarked(run, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_writer, "_LARGE_MAPS", 1000)
    photograph(tmp_path / "a.png", 160, 120, (70, 50, 30, 24), 1)
    monkeypatch.setattr(predicting, "find_checkpoint", lambda *_: tmp_path)
    monkeypatch.setattr(predicting, "load_checkpoint", lambda *_: checkpoint(Preprocessing(30, 30, False)))
    monkeypatch.setattr(predicting, "list_notes", lambda _: [])
    summary = predicting.predict(tmp_path, tmp_path / "a.png", tmp_path / "out", "felt", "cpu")
    assert any("--maps png takes less" in remark for remark in summary.remarks)


def test_an_overlay_is_tinted_only_where_there_is_a_score(tmp_path):
    photograph(tmp_path / "a.png", 40, 20, (1, 1, 2, 2), 1)
    preprocessing = Preprocessing(10, 10, True)
    prediction = PhotographPrediction.of_file(tmp_path / "a.png", preprocessing, np.zeros((10, 10), np.float32))
    drawn = np.asarray(prediction.overlay(Scale(0.0, 1.0, np.inf)))
    assert (drawn[:, :9] == np.asarray(Image.open(tmp_path / "a.png"))[:, :9]).all()
    assert (drawn[:, 11:29] != GREY[0]).all()
