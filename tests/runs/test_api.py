"""Runs from Python: equal bytes for equal runs, complete run folders, and metrics that are not available."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

import anoframe
from anoframe.config import flatten, load_config
from anoframe.errors import AnoframeError
from anoframe.evaluation.results import Results
from anoframe.runs.folder import run_folder

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGE = ("image_auroc", "image_ap", "image_f1max")
PIXEL = ("pixel_auroc", "pixel_ap", "pixel_f1max", "aupro", "iou_max", "pro_per_image")


@pytest.fixture(scope="module")
def twin(train_tiny):
    """A second run with the config of the finished one."""
    return train_tiny(["felt", "mesh"])


@pytest.fixture(scope="module")
def alone(train_tiny):
    """A run on one category of the finished run."""
    return train_tiny(["mesh"])


@pytest.fixture(scope="module")
def incomplete(train_tiny, write_category, tmp_path_factory):
    """A run on a complete category, and on others without masks, without defects, without good test images."""
    root = tmp_path_factory.mktemp("incomplete")
    write_category(root / "a_whole", 7)
    write_category(root / "b_no_masks", 8, masks=False)
    write_category(root / "c_only_good", 9, defects=0)
    write_category(root / "d_only_defects", 10, good=0)
    return train_tiny(["all"], data__root=str(root))


def bank(run, category):
    return load_file(run.folder / "checkpoint" / category / "learned.safetensors")["bank"]


def recorded_scores(run, category):
    """Return `<defect>/<file>` -> score, from the index of the pictures."""
    index = json.loads((run.folder / "pictures" / category / "pictures.json").read_text())
    return {entry["name"]: entry["score"] for entry in index}


# ------------------------------------------------------------------------------------------------ equal runs


@pytest.mark.parametrize(
    "file",
    [
        "metrics.json",
        "metrics.csv",
        "config.yaml",
        "checkpoint/felt/learned.safetensors",
        "checkpoint/felt/detector.json",
        "pictures/felt/pictures.json",
    ],
)
def test_equal_runs_write_equal_bytes(finished, twin, file):
    assert (twin.folder / file).read_bytes() == (finished.folder / file).read_bytes()


def test_a_saved_config_repeats_its_run(finished, tmp_path):
    again = anoframe.train(anoframe.load_config(finished.folder / "config.yaml"), output=tmp_path)
    assert (again.folder / "metrics.json").read_bytes() == (finished.folder / "metrics.json").read_bytes()


def test_another_seed_gives_another_bank(alone, train_tiny):
    assert not bank(train_tiny(["mesh"], seed=1), "mesh").equal(bank(alone, "mesh"))


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_batch_size_changes_no_metric(alone, train_tiny, batch_size):
    assert train_tiny(["mesh"], data__batch_size=batch_size).metrics == alone.metrics


def test_a_category_alone_has_the_bank_it_has_among_others(finished, alone):
    assert bank(alone, "mesh").equal(bank(finished, "mesh"))


def test_a_category_alone_has_the_scores_it_has_among_others(finished, alone):
    assert recorded_scores(alone, "mesh") == recorded_scores(finished, "mesh")


def test_a_category_alone_has_the_metrics_it_has_among_others(finished, alone):
    assert alone.metrics["mesh"] == finished.metrics["mesh"]


# ------------------------------------------------------------------------------------------------ the folder


def test_the_folder_names_config_protocol_categories_and_seed(finished):
    assert finished.folder.parts[-4:] == ("tiny", "separate", "felt+mesh", "0")


def test_many_categories_give_a_short_folder_name(finished):
    names = [f"category_{i:02d}" for i in range(15)]
    assert run_folder(finished.config, names, "runs").parent.name == "category_00+14"


def test_the_folder_has_the_documented_files(finished):
    files = {path.relative_to(finished.folder).as_posix() for path in finished.folder.rglob("*") if path.is_file()}
    fits = {f"checkpoint/{c}/{f}" for c in ("felt", "mesh") for f in ("learned.safetensors", "detector.json")}
    top = {
        "data.json",
        "config.yaml",
        "log.jsonl",
        "metrics.json",
        "metrics.csv",
        "run.json",
        "run.lock",
        "report.html",
    }
    results = {"results/felt.json", "results/mesh.json"}
    assert {file for file in files if not file.startswith("pictures/")} == fits | results | top


def test_each_category_has_its_pictures(finished):
    for category in ("felt", "mesh"):
        folder = finished.folder / "pictures" / category
        listed = {entry["file"] for entry in json.loads((folder / "pictures.json").read_text())}
        assert listed == {path.name for path in folder.glob("*.png")}
        assert len(listed) == 6


def test_no_temporary_file_is_left(finished):
    assert list(finished.folder.rglob("*.part")) == []


def test_the_config_of_the_folder_is_the_one_that_ran(finished, tiny_config):
    expected = dict(flatten(load_config(tiny_config))) | {"categories": ("felt", "mesh")}
    expected["data.keep_aspect"] = False  # "rectangle", of square images
    assert dict(flatten(load_config(finished.folder))) == expected


def test_the_config_names_the_categories_that_all_stands_for(incomplete):
    assert incomplete.config.categories == ("a_whole", "b_no_masks", "c_only_good", "d_only_defects")


def test_an_overwritten_run_keeps_nothing_of_the_earlier_one(run_copy, finished, tmp_path):
    target = run_folder(finished.config, ["mesh"], tmp_path / "runs")
    leftovers = [target / "pictures/mesh/worst_old.png", target / "checkpoint/old/detector.json"]
    for path in (target / "metrics.json", *leftovers):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    anoframe.train(finished.config, ["mesh"], tmp_path / "runs", start="overwrite")
    assert [path for path in leftovers if path.exists()] == []


# ------------------------------------------------------------------------------------------------ metrics.json


@pytest.fixture
def tree(finished):
    return json.loads((finished.folder / "metrics.json").read_text())


def test_metrics_have_three_parts(tree):
    assert list(tree) == ["categories", "mean", "provenance"]


def test_metrics_have_the_documented_names(tree):
    assert list(tree["categories"]["felt"]) == [*IMAGE, *PIXEL]


def test_metrics_lie_between_zero_and_one(tree):
    assert all(0 <= value <= 1 for metrics in tree["categories"].values() for value in metrics.values())


def test_metrics_on_disk_are_those_of_the_run(tree, finished):
    assert (tree["categories"], tree["mean"]) == (finished.metrics, finished.mean)


def test_the_mean_is_taken_over_the_categories(tree):
    felt, mesh = (tree["categories"][name] for name in ("felt", "mesh"))
    assert tree["mean"] == {name: (felt[name] + mesh[name]) / 2 for name in felt}


def test_further_limits_and_thresholds_add_metrics(train_tiny):
    run = train_tiny(["mesh"], evaluation__aupro_limits=(0.05,), evaluation__pixel_thresholds=(1.5,))
    added = {"aupro_0.05", "pixel_f1_at_1.5", "pixel_accuracy_at_1.5", "pixel_iou_at_1.5"}
    assert set(run.metrics["mesh"]) == {*IMAGE, *PIXEL} | added


@pytest.mark.parametrize("limits", ["2.0", "0.3,wide", "None"])
def test_invalid_limits_are_refused_before_the_run(tiny_config, tmp_path, limits):
    cfg = anoframe.load_config(tiny_config, {"evaluation.aupro_limits": limits})
    with pytest.raises(AnoframeError, match="limit"):
        anoframe.train(cfg, ["mesh"], tmp_path)
    assert list(tmp_path.rglob("learned.safetensors")) == []


# ------------------------------------------------------------------------------------------------ provenance


def test_provenance_has_the_documented_keys(tree):
    known_before = {"config", "protocol", "seed", "data", "data_fingerprint", "model", "versions", "git"}
    known_after = {"counts", "thresholds", "not_available", "backbone", "failed"}
    assert set(tree["provenance"]) == known_before | known_after | {"notes"}  # its weights are random


def test_provenance_has_resolution_and_crop(tree):
    assert tree["provenance"]["data"] == {
        "name": "folder",
        "resize": 64,
        "crop": 64,
        "keep_aspect": False,
        "jpeg_draft": False,
        "interpolation": "bilinear",
        "mask_rule": "half",
        "mask_frame": "upright",
    }


def test_provenance_counts_the_images(tree):
    assert tree["provenance"]["counts"]["felt"] == {
        "train": 6,
        "test_good": 3,
        "test_defect": 4,
        "defects_cropped_away": 0,
    }


def test_provenance_has_the_hash_of_the_backbone(tree):
    assert len(bytes.fromhex(tree["provenance"]["backbone"]["sha256"])) == 32


def words_of(tree) -> list[str]:
    """Return every key and value below a node as text."""
    if isinstance(tree, dict):
        return [word for key, value in tree.items() for word in (key, *words_of(value))]
    return [word for item in tree for word in words_of(item)] if isinstance(tree, list) else [str(tree)]


def test_provenance_has_no_absolute_path(tree):
    assert [word for word in words_of(tree["provenance"]) if Path(word).is_absolute()] == []


def test_provenance_has_no_host_and_no_time(tree):
    words = words_of(tree["provenance"])
    assert [word for word in words if word == socket.gethostname() or "time" in word or "date" in word] == []


# ------------------------------------------------------------------------------------------------ not available


def test_without_masks_pixel_metrics_are_not_available(incomplete):
    metrics = incomplete.metrics["b_no_masks"]
    assert {name for name, value in metrics.items() if value is None} == set(PIXEL)


def test_a_mask_too_small_for_the_resolution_gives_a_warning(train_tiny, tiny_root, tmp_path):
    root = shutil.copytree(tiny_root, tmp_path / "data")
    path = next((root / "felt/ground_truth").rglob("*.png"))
    mask = np.zeros_like(np.asarray(Image.open(path)))
    mask[0, 0] = 255
    Image.fromarray(mask).save(path)
    run = train_tiny(["felt"], data__root=str(root), data__resize=32, data__crop=32, model__coreset__ratio=0.5)
    events = map(json.loads, (run.folder / "log.jsonl").read_text().splitlines())
    warnings = [event["text"] for event in events if event["event"] == "warning" and "pixel" in event["text"]]
    lost = "felt: 1 mask loses every defect pixel at data.resize 32, data.crop 32 and data.mask_rule half: "
    assert warnings == [f"{lost}{path}"], "once, before the fit"
    stored = json.loads((run.folder / "metrics.json").read_text())
    assert stored["provenance"]["counts"]["felt"]["defects_cropped_away"] == 1


def test_a_published_empty_mask_is_not_lost_to_the_resolution(train_tiny, tiny_root, tmp_path):
    folder, felt = tmp_path / "btad/01", tiny_root / "felt"
    for source, target in (("train/good", "train/ok"), ("test/good", "test/ok"), ("test/cut", "test/ko")):
        shutil.copytree(felt / source, folder / target)
    for mask in (felt / "ground_truth/cut").iterdir():
        (folder / "ground_truth/ko").mkdir(parents=True, exist_ok=True)
        shutil.copy(mask, folder / "ground_truth/ko" / mask.name.replace("_mask", ""))
    empty = next((folder / "ground_truth/ko").iterdir())
    Image.fromarray(np.zeros_like(np.asarray(Image.open(empty)))).save(empty)
    run = train_tiny(["01"], data__name="btad", data__root=str(folder.parent))
    stored = json.loads((run.folder / "metrics.json").read_text())
    assert stored["provenance"]["counts"]["01"]["defects_cropped_away"] == 0
    events = map(json.loads, (run.folder / "log.jsonl").read_text().splitlines())
    warnings = [event["text"] for event in events if event["event"] == "warning"]
    assert [text for text in warnings if "pixel" in text] == ["01: 1 mask without a pixel of the defect, as published"]


def test_without_defects_no_metric_is_available(incomplete):
    assert set(incomplete.metrics["c_only_good"].values()) == {None}


def test_without_good_images_image_metrics_are_not_available(incomplete):
    metrics = incomplete.metrics["d_only_defects"]
    assert metrics["image_auroc"] is None
    assert all(metrics[name] is not None for name in PIXEL)


def test_not_available_is_null_on_disk(incomplete):
    stored = json.loads((incomplete.folder / "metrics.json").read_text())
    assert stored["categories"] == incomplete.metrics


def test_the_mean_is_over_what_is_available(incomplete):
    values = [incomplete.metrics[name]["aupro"] for name in ("a_whole", "d_only_defects")]
    assert incomplete.mean["aupro"] == sum(values) / 2


def test_provenance_names_what_is_not_available(incomplete):
    assert incomplete.results.provenance["not_available"] == {
        category: [name for name, value in metrics.items() if value is None]
        for category, metrics in incomplete.metrics.items()
        if None in metrics.values()
    }


def test_not_available_is_n_a_in_the_table(incomplete):
    row = next(line for line in incomplete.results.table().splitlines() if line.startswith("c_only_good"))
    assert row.split()[1:] == ["n/a"] * 8


def test_not_available_is_empty_in_the_csv(incomplete):
    rows = (incomplete.folder / "metrics.csv").read_text().splitlines()
    assert any(row.startswith("c_only_good,,,,,,,,,,the backbone weights are random") for row in rows)


def test_a_run_without_defects_has_its_pictures(incomplete):
    index = json.loads((incomplete.folder / "pictures" / "c_only_good" / "pictures.json").read_text())
    assert {entry["name"] for entry in index} == {"good/000.png", "good/001.png", "good/002.png"}


# ------------------------------------------------------------------------------------------------ loading a run


@pytest.fixture(scope="module")
def loaded(finished):
    return anoframe.load_run(finished.folder)


def test_a_loaded_run_equals_the_run(loaded, finished):
    assert (loaded.folder, loaded.metrics, loaded.mean) == (finished.folder, finished.metrics, finished.mean)


def test_a_prediction_is_one_score_and_one_map(loaded, tiny_root):
    prediction = loaded.predict(tiny_root / "felt/test/cut/000.png", "felt")
    assert (prediction.score.shape, prediction.anomaly_map.shape) == ((), (64, 64))


def test_a_prediction_is_the_score_of_the_test_to_the_bit(loaded, tiny_root):
    recorded = recorded_scores(loaded, "felt")
    scores = {name: loaded.predict(tiny_root / "felt/test" / name, "felt").score.item() for name in recorded}
    assert scores == recorded


def test_path_array_and_pillow_image_predict_the_same(loaded, tiny_root):
    path = tiny_root / "felt/test/cut/000.png"
    picture = Image.open(path)
    images = [path, str(path), picture, np.asarray(picture)]
    scores = {loaded.predict(image, "felt").score.item() for image in images}
    assert len(scores) == 1


def test_a_list_of_images_gives_a_list_of_predictions(loaded, tiny_root):
    files = [tiny_root / "felt/test/cut/000.png", str(tiny_root / "felt/test/good/000.png")]
    alone = [loaded.predict(file, "felt").score.item() for file in files]
    assert [prediction.score.item() for prediction in loaded.predict(files, "felt")] == alone
    assert loaded.predict([], "felt") == []


def test_a_prediction_has_a_decision_where_there_is_a_threshold(loaded, tiny_root):
    file = tiny_root / "felt/test/cut/000.png"
    assert loaded.predict(file, "felt").is_anomalous is None
    score = loaded.predict(file, "felt").score.item()
    assert loaded.predict(file, "felt", {"value": score}).is_anomalous is True
    assert loaded.predict(file, "felt", {"value": score + 1}).is_anomalous is False


def test_a_run_describes_itself_in_a_few_lines(finished):
    lines = repr(finished).splitlines()
    assert lines[0] == "Run: tiny, separate, seed 0"
    assert lines[1] == f"folder: {finished.folder}"
    assert f"image_auroc {100 * finished.mean['image_auroc']:.2f}" in lines[3]
    assert len(lines) == 4


def test_a_run_is_a_table_in_a_notebook(finished):
    html = finished._repr_html_()
    assert "<th>felt</th>" in html
    assert f"<td>{100 * finished.metrics['felt']['image_auroc']:.2f}</td>" in html
    assert (finished.folder / "report.html").as_uri() in html


def test_names_are_escaped_in_a_notebook(finished):
    attack = replace(finished, results=Results({"<script>": {"image_auroc": 0.5}}))
    assert "<script>" not in attack._repr_html_()


def test_a_loaded_run_predicts_like_the_finished_one(loaded, finished, tiny_root):
    path = tiny_root / "mesh/test/dent/001.png"
    maps = [run.predict(path, "mesh").anomaly_map for run in (loaded, finished)]
    assert maps[0].equal(maps[1])


def test_a_category_must_be_named_if_there_are_several_detectors(loaded, tiny_root):
    with pytest.raises(AnoframeError, match="--cls_names, of felt, mesh"):
        loaded.predict(tiny_root / "felt/test/cut/000.png")


def test_a_single_detector_needs_no_category(alone, tiny_root):
    path = tiny_root / "mesh/test/cut/000.png"
    assert alone.predict(path).score == alone.predict(path, "mesh").score


def test_the_nearest_category_is_suggested(loaded, tiny_root):
    with pytest.raises(AnoframeError, match="category 'flet': did you mean 'felt'"):
        loaded.predict(tiny_root / "felt/test/cut/000.png", "flet")


def test_a_loaded_run_needs_no_data(run_copy, tiny_root, tmp_path):
    text = (run_copy / "config.yaml").read_text().replace(str(tiny_root), str(tmp_path / "gone"))
    (run_copy / "config.yaml").write_text(text)
    assert anoframe.load_run(run_copy).predict(np.zeros((80, 70, 3), np.uint8), "felt").score > 0


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(AnoframeError, match=r"there is no run folder .*gone"):
        anoframe.load_run(tmp_path / "gone")


def test_a_folder_without_results_is_named(run_copy):
    (run_copy / "metrics.json").unlink()
    with pytest.raises(AnoframeError, match=r"there is no .*metrics\.json"):
        anoframe.load_run(run_copy)


@pytest.mark.parametrize("categories", [None, []])
def test_training_needs_a_category(tiny_config, tmp_path, categories):
    with pytest.raises(AnoframeError, match="no category given"):
        anoframe.train(anoframe.load_config(tiny_config), categories, tmp_path)


def test_training_does_not_change_the_config(tiny_config, alone):
    assert anoframe.load_config(tiny_config).categories == ()
    assert alone.config.is_locked


# ------------------------------------------------------------------------------------------------ testing again


def test_one_fit_of_several_is_tested_on_its_category(finished, tmp_path):
    run = anoframe.test(finished.folder / "checkpoint" / "mesh", output=tmp_path)
    assert run.metrics == {"mesh": finished.metrics["mesh"]}


def test_a_category_without_training_is_refused_before_a_folder_is_made(alone, tmp_path):
    with pytest.raises(AnoframeError, match="was not trained on category 'felt'"):
        anoframe.test(alone.folder, categories=["felt"], output=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_model_section_is_refused(alone, tmp_path):
    cfg = load_config(alone.folder, {"model.sigma": 2.0})
    with pytest.raises(AnoframeError, match="trained with another model section than this config: sigma differ"):
        anoframe.test(alone.folder, cfg, output=tmp_path)


def test_a_config_without_a_model_section_is_refused_before_it_is_compared(run_copy, tmp_path):
    path = run_copy / "config.yaml"
    path.write_text(path.read_text().replace("\nmodel:", "\nmoodel:"))
    with pytest.raises(AnoframeError, match="has no model section"):
        anoframe.test(run_copy, output=tmp_path)


def test_a_test_has_the_seed_of_the_training(alone, tmp_path):
    again = anoframe.test(alone.folder, load_config(alone.folder, {"seed": 5}), output=tmp_path)
    assert again.results.provenance["seed"] == 0


def test_a_test_has_the_protocol_of_the_training(train_tiny, tmp_path):
    unified = train_tiny(["felt", "mesh"], protocol__name="unified")
    cfg = load_config(unified.folder, {"protocol.name": "separate"})
    assert anoframe.test(unified.folder, cfg, output=tmp_path).results.provenance["protocol"] == "unified"


@pytest.mark.slow
def test_a_tracked_run_has_the_metrics_of_one_without_tracking(train_tiny, alone, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    tracked = train_tiny(["mesh"], wandb__enable=True)
    assert (tracked.folder / "metrics.json").read_bytes() == (alone.folder / "metrics.json").read_bytes()
    assert list(tracked.folder.glob("wandb/offline-run-*/*.wandb"))
