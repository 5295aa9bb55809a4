"""Runs of a method that has no anomaly map: metrics, pictures, report, thresholds and prediction."""

from __future__ import annotations

import csv
import json
import re

import pytest
from image_level_method import CONFIG
from PIL import Image
from tiny_data import TINY_DATA

import anoframe
from anoframe.config import load_config
from anoframe.errors import AnoframeError
from anoframe.metrics.catalogue import names_of
from anoframe.runs.predict import predict

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def config(tmp_path_factory, enough_root):
    path = tmp_path_factory.mktemp("configs") / "pooled.py"
    path.write_text(CONFIG.format(common=TINY_DATA.format(root=str(enough_root))), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    return anoframe.train(load_config(config), ["all"], tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def result(run):
    category = next(iter(run.metrics))
    return json.loads((run.folder / "results" / f"{category}.json").read_text())


def test_image_metrics_are_available_and_pixel_metrics_are_not(run):
    for metrics in run.metrics.values():
        assert all(metrics[name] is not None for name in names_of("image"))
        assert all(metrics[name] is None for name in names_of("pixel"))


def test_an_extra_score_has_its_own_auroc(run):
    assert {metrics["image_auroc_letters"] for metrics in run.metrics.values()} == {0.5}  # one name per category


def test_each_test_image_has_its_extra_scores(result):
    assert {row["extra_scores"]["letters"] for row in result["images"]} == {float(len(result["category"]))}


def test_the_threshold_has_no_pixel_value(result):
    assert result["threshold"]["image"] > 0
    assert result["threshold"]["pixel"] is None


def test_pictures_show_the_image_alone(run):
    pictures = sorted((run.folder / "pictures").rglob("*.png"))
    assert pictures
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.width == picture.height


def test_the_report_says_that_pixel_metrics_are_not_available(run):
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "n/a" in page
    assert not re.search(r">\s*-?nan", page, re.IGNORECASE)


def test_a_loaded_run_predicts_without_a_map(run, enough_root):
    category = next(iter(run.metrics))
    image = next((enough_root / category / "test").rglob("*.png"))
    prediction = anoframe.load_run(run.folder).predict(image, category)
    assert prediction.anomaly_map is None
    assert prediction.extra_scores["letters"].item() == len(category)


def test_prediction_writes_scores_and_decisions_and_no_maps(run, enough_root, tmp_path):
    category = next(iter(run.metrics))
    written = predict(run.folder, enough_root / category / "test", tmp_path / "out", category)
    with (written.folder / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert written.images == len(rows) > 0
    assert {row["decision"] for row in rows} <= {"good", "defect"}
    assert not (written.folder / "maps").exists()
    assert not (written.folder / "overlays").exists()
    assert not written.not_drawn


def test_an_image_size_that_does_not_fit_is_an_error_before_the_run(config, tmp_path):
    cfg = load_config(config, {"data.resize": 40, "data.crop": 40})
    with pytest.raises(AnoframeError, match=r"data.crop 40 is not a multiple of 32"):
        anoframe.train(cfg, ["all"], tmp_path / "runs")
    assert not list((tmp_path / "runs").rglob("config.yaml"))
