"""Prediction on new images: the numbers of the test, and an entry for every file."""

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
    """Predicts with that run into a new folder; returns the summary and the entries of scores.jsonl."""

    def run(source, **options):
        output = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        summary = anoframe.predict(alone.folder, source, output, **options)
        return summary, [json.loads(line) for line in (output / "scores.jsonl").read_text().splitlines()]

    return run


@pytest.fixture
def images(alone):
    """The folder of the run, and the folder of its test images."""
    return alone.folder, Path(alone.config.data.root) / "felt/test"


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_scores_are_those_of_the_test_to_the_bit(predict, images, batch_size):
    folder, source = images
    recorded = json.loads((folder / "results/felt.json").read_text())["images"]
    scores = {image["name"]: image["score"] for image in recorded}
    _, entries = predict(source, batch_size=batch_size)
    assert {entry["file"]: entry["score"] for entry in entries} == scores
    assert [entry["file"] for entry in entries] == sorted(scores)


def test_maps_are_those_of_the_python_interface(predict, images, alone):
    _, source = images
    summary, entries = predict(source / "cut/000.png")
    expected = alone.predict(source / "cut/000.png").anomaly_map.numpy()
    assert (np.load(summary.folder / entries[0]["map"]) == expected).all()


def test_a_16_bit_map_has_its_range(predict, images, alone):
    _, source = images
    summary, (entry,) = predict(source / "cut/000.png", maps="png")
    levels = np.asarray(Image.open(summary.folder / entry["map"])).astype(np.float64)
    values = entry["map_low"] + levels / 65535 * (entry["map_high"] - entry["map_low"])
    expected = alone.predict(source / "cut/000.png").anomaly_map.numpy()
    assert np.abs(values - expected).max() <= (entry["map_high"] - entry["map_low"]) / 65535


def test_decisions_follow_the_stored_threshold(predict, images, alone):
    _, source = images
    description = json.loads((alone.folder / "checkpoint/felt/detector.json").read_text())
    threshold = description["thresholds"]["felt"]["image"]
    summary, entries = predict(source)
    assert all(entry["defect"] == (entry["score"] >= threshold) for entry in entries)
    assert summary.defects == sum(entry["defect"] for entry in entries)


def test_a_score_equal_to_the_threshold_is_a_defect(alone, images, tmp_path):
    _, source = images
    copy = Path(shutil.copytree(alone.folder, tmp_path / "run"))
    path = copy / "checkpoint/felt/detector.json"
    description = json.loads(path.read_text())
    recorded = json.loads((copy / "results/felt.json").read_text())["images"]
    (score,) = [image["score"] for image in recorded if image["name"] == "cut/000.png"]
    description["thresholds"]["felt"]["image"] = score
    path.write_text(json.dumps(description))
    assert anoframe.predict(copy, source / "cut/000.png", tmp_path / "out").defects == 1


def test_the_csv_has_the_entries_of_the_jsonl(predict, images):
    _, source = images
    summary, entries = predict(source)
    rows = list(csv.DictReader((summary.folder / "scores.csv").open()))
    expected = [(entry["file"], entry["score"]) for entry in entries]
    assert [(row["file"], float(row["score"])) for row in rows] == expected
    assert {row["decision"] for row in rows} <= {"good", "defect"}


def test_without_a_threshold_there_is_no_decision(finished, tiny_root, tmp_path):
    summary = anoframe.predict(finished.folder, tiny_root / "felt/test/good", tmp_path / "out", category="felt")
    assert summary.defects is None
    assert {row["decision"] for row in csv.DictReader((tmp_path / "out/scores.csv").open())} == {""}


def test_a_damaged_file_is_reported_and_the_others_are_scored(predict, images, tmp_path):
    _, source = images
    parts = tmp_path / "parts with ümläut"
    shutil.copytree(source / "cut", parts)
    (parts / "broken.png").write_bytes((parts / "000.png").read_bytes()[:200])
    summary, entries = predict(parts)
    assert (summary.images, list(summary.bad)) == (2, ["broken.png"])
    assert [entry["file"] for entry in entries if "error" in entry] == ["broken.png"]


def test_the_command_line_returns_1_for_a_damaged_file(cli, alone, images, tmp_path):
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
    summary, entries = predict(source / "cut")
    assert {Image.open(summary.folder / entry["overlay"]).size for entry in entries} == {(64, 64)}


def test_earlier_predictions_are_not_overwritten(alone, images, tmp_path):
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
        (["--input", ".", "--resume"], "cannot resume"),
    ],
)
def test_impossible_options_are_refused(cli, alone, words, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("x.png")
    done = cli("--mode", "predict", "--checkpoint", alone.folder, *words)
    assert done.status == 2
    assert text in done.err


def test_earlier_overlays_are_not_predicted(alone, images, tmp_path):
    shutil.copytree(images[1] / "cut", tmp_path / "parts")
    counts = [anoframe.predict(alone.folder, tmp_path, tmp_path / "out", overwrite=True).images for _ in range(2)]
    assert counts == [2, 2]


def test_only_the_chosen_detector_is_loaded(run_copy, tiny_root, tmp_path):
    (run_copy / "checkpoint/mesh/learned.safetensors").unlink()
    assert anoframe.predict(run_copy, tiny_root / "felt/test/cut", tmp_path / "out", category="felt").images == 2


def test_a_folder_without_images_is_refused(alone, tmp_path):
    with pytest.raises(AnoframeError, match="no image in"):
        anoframe.predict(alone.folder, tmp_path, tmp_path / "out")
