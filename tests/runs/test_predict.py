"""Prediction on new images: the numbers of the test, and an entry for every file."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import anoframe
from anoframe.errors import AnoframeError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


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


# ------------------------------------------------------------------------------------------------ one bad file of many


@pytest.fixture
def parts(images, tmp_path):
    """A folder with one image, `000.png`, and a function that copies it to another name."""
    folder = tmp_path / "parts"
    folder.mkdir()
    source = images[1] / "good/000.png"
    shutil.copy(source, folder / "000.png")

    def add(name):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        return shutil.copy(source, folder / name)

    return folder, add


def assert_all_scored(summary, entries, names):
    """Assert that all files are scored, each with its own map and overlay."""
    assert summary.bad == summary.not_drawn == {}
    assert [entry["file"] for entry in entries] == names
    for key in ("map", "overlay"):
        files = [summary.folder / entry[key] for entry in entries]
        assert len(set(files)) == len(names)
        assert all(file.is_file() for file in files)


def test_a_name_that_is_not_utf8_is_scored_under_an_escaped_name(predict, parts):
    folder, add = parts
    add(os.fsdecode(b"caf\xe9.png"))
    add("z.png")
    summary, entries = predict(folder)
    assert_all_scored(summary, entries, ["000.png", "caf\\xe9.png", "z.png"])
    rows = csv.DictReader((summary.folder / "scores.csv").open(encoding="utf-8"))
    assert [row["file"] for row in rows] == ["000.png", "caf\\xe9.png", "z.png"]


def test_two_names_that_are_escaped_alike_have_two_maps(predict, parts):
    folder, add = parts
    add(os.fsdecode(b"caf\xe9.png"))
    add("caf\\xe9.png")
    assert_all_scored(*predict(folder), ["000.png", "caf\\xe9.png", "caf\\xe9.png"])


@pytest.mark.parametrize("name", ["é" * 125 + ".png", "a" * 251 + ".png", "/".join(["b" * 250] * 6) + "/c.png"])
def test_a_long_name_is_scored(predict, parts, name):
    folder, add = parts
    add(name)
    assert_all_scored(*predict(folder), sorted(["000.png", name]))


def test_a_bad_file_with_a_name_that_is_not_utf8_is_reported(cli, alone, parts, tmp_path):
    folder, _ = parts
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    done = cli("--mode", "predict", "--checkpoint", alone.folder, "--input", folder, "--output", tmp_path / "out")
    assert done.status == 1
    assert "caf\\xe9.png: zero bytes" in done.err
    assert "1 images scored" in done.out


def test_a_map_that_cannot_be_written_costs_no_score(cli, alone, parts, tmp_path):
    folder, add = parts
    add("001.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/maps").write_text("a file in place of the folder")
    (tmp_path / "out/overlays/000.png.jpg").mkdir(parents=True)
    done = cli("--mode", "predict", "--checkpoint", alone.folder, "--input", folder, "--output", tmp_path / "out")
    assert done.status == 0, done.err
    assert "warning: map or overlay of 2 images not written, the first: cannot write" in done.out
    first, second = (json.loads(line) for line in (tmp_path / "out/scores.jsonl").read_text().splitlines())
    assert ("score" in first, "overlay" in first, "overlay" in second) == (True, False, True)
    assert all("cannot write" in entry["warning"] for entry in (first, second))


# ------------------------------------------------------------------------------------------------ what is left out


def test_what_is_left_out_is_said(cli, alone, parts, tmp_path):
    folder, add = parts
    for name in (
        "a.heic",
        "b.jp2",
        ".ipynb_checkpoints/000-checkpoint.png",
        "@eaDir/000.png",
        "._000.png",
        "Thumbs.db",
    ):
        add(name)
    done = cli("--mode", "predict", "--checkpoint", alone.folder, "--input", folder, "--output", tmp_path / "out")
    assert (done.status, done.err) == (0, "")
    remarks = [line for line in done.out.splitlines() if line.startswith("remark: ")]
    assert len(remarks) == 3
    assert remarks[0].startswith("remark: 2 files are not read, of type .heic, .jp2 (")
    assert remarks[1].endswith(f"1 hidden file is not read: {folder}/._000.png")
    assert remarks[2].endswith(f"2 hidden or system folders are not searched: the first is {folder}/.ipynb_checkpoints")
    assert "1 images scored" in done.out


def test_broken_links_are_not_read_and_linked_folders_are_searched(predict, parts, tmp_path):
    folder, _ = parts
    (tmp_path / "camera").mkdir()
    shutil.copy(folder / "000.png", tmp_path / "camera/b.png")
    for link, target in {"gone.png": "../gone.png", "day1": "../camera", "day2": "../nowhere"}.items():
        (folder / link).symlink_to(target)
    summary, entries = predict(folder)
    assert [entry["file"] for entry in entries if "score" in entry] == ["000.png", "day1/b.png"]
    assert sorted(summary.bad) == ["day2", "gone.png"]
    assert "broken link" in summary.bad["day2"]


def test_a_folder_with_other_files_only_is_refused_with_their_suffix(alone, parts, tmp_path):
    folder, _ = parts
    (folder / "000.png").rename(folder / "000.heic")
    with pytest.raises(AnoframeError, match=r"no image in .*1 file is not read, of type \.heic .*: .*000\.heic"):
        anoframe.predict(alone.folder, folder, tmp_path / "out")


# ------------------------------------------------------------------------------------------------ several inputs


def test_several_inputs_are_named_as_in_their_folder(predict, parts):
    folder, add = parts
    for name in ("001.png", "sub/002.png", "notes.txt", ".003.png"):
        add(name)
    (folder / "day1").symlink_to("sub")
    summary, entries = predict([*folder.iterdir(), folder / "000.png"])
    assert_all_scored(summary, entries, ["000.png", "001.png", "sub/002.png"])
    assert [remark.split(",")[0] for remark in summary.remarks] == [
        "1 file is not read",
        f"1 hidden file is not read: {folder}/.003.png",
        "1 linked folder is not searched",
    ]


def test_inputs_of_several_folders_are_named_from_their_common_folder(cli, alone, parts, tmp_path, monkeypatch):
    folder, add = parts
    add("a/1.png")
    add("b/1.png")
    monkeypatch.chdir(folder)
    words = ("--input", "a/1.png", folder / "b", "--output", tmp_path / "out")
    done = cli("--mode", "predict", "--checkpoint", alone.folder, *words)
    assert done.status == 0, done.err
    assert [row["file"] for row in csv.DictReader((tmp_path / "out/scores.csv").open())] == ["a/1.png", "b/1.png"]


def test_a_missing_input_of_several_is_not_read(predict, parts):
    folder, _ = parts
    long = folder / ("a" * 300 + ".png")
    summary, _ = predict([folder / "000.png", folder / "gone.png", folder / "gone", long])
    assert sorted(summary.bad) == [long.name, "gone", "gone.png"]
    assert summary.images == 1


def test_missing_inputs_are_refused(alone, tmp_path):
    for source in ([], [tmp_path / "a.png", tmp_path / "b.png"], tmp_path / ("a" * 300)):
        with pytest.raises(AnoframeError, match=r"there is no .*: --input is images, or folders of images"):
            anoframe.predict(alone.folder, source, tmp_path / "out")


# ------------------------------------------------------------------------------------------------ earlier predictions


@pytest.mark.parametrize("output", ["parts/out", "parts/../parts/out", "linked/out", "parts", "."])
def test_a_prediction_is_no_input(alone, parts, tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    Path("linked").symlink_to("parts")
    for source in ("parts", tmp_path / "parts", "linked", "parts"):
        summary = anoframe.predict(alone.folder, source, output, maps="png", overwrite=True)
        assert (summary.images, summary.bad) == (1, {})


def test_an_earlier_prediction_in_another_folder_is_no_input(alone, parts, tmp_path):
    folder, _ = parts
    anoframe.predict(alone.folder, folder, folder / "first", maps="png")
    (folder / "link").symlink_to("first/overlays")
    summary = anoframe.predict(alone.folder, folder, tmp_path / "second")
    assert summary.images == 1
    assert any(
        remark.startswith("4 output folders are not searched: written by anoframe") for remark in summary.remarks
    )


def test_an_input_below_the_output_is_predicted(alone, parts, tmp_path):
    assert anoframe.predict(alone.folder, parts[0], tmp_path).images == 1


def test_overwrite_leaves_nothing_of_the_earlier_prediction(alone, parts, tmp_path):
    folder, add = parts
    add("sub/deep/001.png")
    add("own.png")
    output = tmp_path / "out"
    anoframe.predict(alone.folder, folder, output, maps="png")
    (output / "overlays/mine.jpg").write_text("not of a prediction")
    shutil.rmtree(folder / "sub")
    anoframe.predict(alone.folder, folder, output, overlays=False, overwrite=True)
    files = sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())
    expected = [
        "maps/000.png.npy",
        "maps/own.png.npy",
        "overlays/mine.jpg",
        "predictions.html",
        "regions.csv",
        "scores.csv",
        "scores.jsonl",
    ]
    assert files == expected
    assert not (output / "maps/sub").exists()


@pytest.mark.parametrize("overlays", [False, True])
def test_overwrite_removes_the_drawings_of_a_killed_prediction(alone, parts, tmp_path, monkeypatch, overlays):
    folder, _ = parts
    output = tmp_path / "out"

    def kill(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("anoframe.runs.prediction_writer.PredictionWriter._append", kill)
        with pytest.raises(KeyboardInterrupt):
            anoframe.predict(alone.folder, folder, output, maps="png", overlays=overlays)
    assert (output / "maps/000.png.png").exists()
    (output / "overlays").mkdir(exist_ok=True)
    if not overlays:
        (output / "overlays/000.png.jpg").write_text("mine")
    anoframe.predict(alone.folder, folder, output, overlays=False, overwrite=True)
    files = sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())
    mine = [] if overlays else ["overlays/000.png.jpg"]
    assert files == ["maps/000.png.npy", *mine, "predictions.html", "regions.csv", "scores.csv", "scores.jsonl"]


def test_overwrite_removes_no_file_that_is_none_of_a_prediction(alone, parts, tmp_path):
    folder, _ = parts
    output = tmp_path / "out"
    (output / "maps").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (output / "overlays").symlink_to(tmp_path / "elsewhere")
    witnesses = [
        tmp_path / "witness.png",
        output / "witness.png",
        output / "maps/notes.txt",
        tmp_path / "elsewhere/a.jpg",
    ]
    for witness in witnesses:
        witness.write_text("")
    listed = ["../witness.png", "maps/../../witness.png", str(witnesses[0]), "witness.png", "maps/notes.txt"]
    lines = [json.dumps({"map": file, "overlay": "overlays/a.jpg"}) for file in [*listed, 5, None]]
    (output / "scores.jsonl").write_text("\n".join([*lines, "[]", "{", "7", '"maps/notes.txt"']))
    anoframe.predict(alone.folder, folder, output, overwrite=True)
    assert all(witness.exists() for witness in witnesses)


def test_interrupted_prediction_says_how_to_continue(cli, alone, parts, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("anoframe.runs.predict.load_photograph", interrupt)
    done = cli("--mode", "predict", "--checkpoint", alone.folder, "--input", parts[0], "--output", tmp_path / "out")
    assert done.status == 130
    assert done.err.startswith("interrupted: scores.csv has the images until then")
