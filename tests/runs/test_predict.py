"""Predicting on new images: the numbers of the test, and every file accounted for."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import anoframe
from anoframe.errors import AnoframeError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def alone(train_tiny, enough_root):
    """A run on one category with enough training images for a threshold."""
    return train_tiny(["felt"], data__root=str(enough_root))


@pytest.fixture
def predict(alone, tmp_path):
    """Predicts with that run, into a folder of its own: what was done, and the lines it wrote."""

    def run(source, **options):
        output = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        done = anoframe.predict(alone.folder, source, output, **options)
        return done, [json.loads(line) for line in (output / "scores.jsonl").read_text().splitlines()]

    return run


@pytest.fixture
def images(alone):
    """The folder of the run, and the images that it was tested on."""
    return alone.folder, Path(alone.config.data.root) / "felt/test"


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_scores_are_those_of_the_test_to_the_bit(predict, images, batch_size):
    folder, source = images
    recorded = json.loads((folder / "results/felt.json").read_text())["images"]
    _, lines = predict(source, batch_size=batch_size)
    assert {one["file"]: one["score"] for one in lines} == {one["name"]: one["score"] for one in recorded}


def test_maps_are_those_of_the_notebook(predict, images, alone):
    _, source = images
    done, lines = predict(source / "cut/000.png")
    expected = alone.predict(source / "cut/000.png").anomaly_map.numpy()
    assert (np.load(done.folder / lines[0]["map"]) == expected).all()


def test_a_picture_map_says_its_range(predict, images, alone):
    _, source = images
    done, (line,) = predict(source / "cut/000.png", maps="png")
    levels = np.asarray(Image.open(done.folder / line["map"])).astype(np.float64)
    found = line["map_low"] + levels / 65535 * (line["map_high"] - line["map_low"])
    expected = alone.predict(source / "cut/000.png").anomaly_map.numpy()
    assert np.abs(found - expected).max() <= (line["map_high"] - line["map_low"]) / 65535


def test_decisions_follow_the_stored_threshold(predict, images, alone):
    _, source = images
    description = json.loads((alone.folder / "checkpoint/felt/detector.json").read_text())
    threshold = description["thresholds"]["felt"]["image"]
    done, lines = predict(source)
    assert all(one["defect"] == (one["score"] >= threshold) for one in lines)
    assert done.defects == sum(one["defect"] for one in lines)


def test_the_table_has_what_the_lines_have(predict, images):
    _, source = images
    done, lines = predict(source)
    rows = list(csv.DictReader((done.folder / "scores.csv").open()))
    assert [(row["file"], float(row["score"])) for row in rows] == [(one["file"], one["score"]) for one in lines]
    assert {row["decision"] for row in rows} <= {"good", "defect"}


def test_without_a_threshold_there_is_no_decision(finished, tiny_root, tmp_path):
    done = anoframe.predict(finished.folder, tiny_root / "felt/test/good", tmp_path / "out", category="felt")
    assert done.defects is None
    assert {row["decision"] for row in csv.DictReader((tmp_path / "out/scores.csv").open())} == {""}


def test_a_bad_file_is_reported_and_the_others_scored(predict, images, tmp_path):
    _, source = images
    parts = tmp_path / "parts with ümläut"
    shutil.copytree(source / "cut", parts)
    (parts / "broken.png").write_bytes((parts / "000.png").read_bytes()[:200])
    done, lines = predict(parts)
    assert (done.images, list(done.bad)) == (2, ["broken.png"])
    assert [one["file"] for one in lines if "error" in one] == ["broken.png"]


def test_the_command_line_ends_with_status_1_for_a_bad_file(cli, alone, images, tmp_path):
    _, source = images
    parts = tmp_path / "parts"
    shutil.copytree(source / "cut", parts)
    (parts / "empty.png").write_bytes(b"")
    done = cli("--mode", "predict", "--checkpoint", alone.folder, "--input", parts, "--output", tmp_path / "out")
    assert done.status == 1
    assert "2 images scored" in done.out
    assert "empty.png: zero bytes" in done.err


def test_overlays_are_pictures(predict, images):
    _, source = images
    done, lines = predict(source / "cut")
    assert {Image.open(done.folder / one["overlay"]).size for one in lines} == {(64, 64)}


def test_earlier_predictions_are_kept(alone, images, tmp_path):
    _, source = images
    anoframe.predict(alone.folder, source / "cut", tmp_path)
    with pytest.raises(AnoframeError, match="has earlier predictions"):
        anoframe.predict(alone.folder, source / "cut", tmp_path)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--input", "nowhere"], "there is no nowhere"),
        ([], "--input is needed"),
        (["--input", ".", "--cls_names", "flet"], "did you mean 'felt'"),
        (["--input", ".", "--model.sigma", "2"], "takes no --model.sigma"),
        (["--input", ".", "--resume"], "nothing to resume"),
    ],
)
def test_what_cannot_be_done_is_told(cli, alone, words, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("x.png")
    done = cli("--mode", "predict", "--checkpoint", alone.folder, *words)
    assert done.status == 2
    assert text in done.err


def test_what_was_written_is_not_predicted_again(alone, images, tmp_path):
    shutil.copytree(images[1] / "cut", tmp_path / "parts")
    counts = [anoframe.predict(alone.folder, tmp_path, tmp_path / "out", overwrite=True).images for _ in range(2)]
    assert counts == [2, 2]


def test_only_the_detector_that_is_asked_is_loaded(run_copy, tiny_root, tmp_path):
    (run_copy / "checkpoint/mesh/learned.safetensors").unlink()
    assert anoframe.predict(run_copy, tiny_root / "felt/test/cut", tmp_path / "out", category="felt").images == 2


def test_a_folder_without_images_is_told(alone, tmp_path):
    with pytest.raises(AnoframeError, match="no image in"):
        anoframe.predict(alone.folder, tmp_path, tmp_path / "out")
