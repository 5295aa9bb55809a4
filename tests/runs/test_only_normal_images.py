"""Runs without test images: a detector, thresholds and predictions, and no metrics."""

from __future__ import annotations

import json
import shutil

import pytest

import anoframe


@pytest.fixture
def normal_images(tiny_root, tmp_path):
    """A dataset whose only category has no test images."""
    shutil.copytree(tiny_root, tmp_path / "data")
    for name in ("mesh", "felt/test", "felt/ground_truth"):
        shutil.rmtree(tmp_path / "data" / name)
    for number in range(6):
        source = tmp_path / f"data/felt/train/good/{number:03d}.png"
        shutil.copy(source, source.with_name(f"1{number:02d}.png"))
    return tmp_path / "data"


def test_a_run_without_test_images_has_thresholds_and_no_metrics(normal_images, tiny_config, tmp_path):
    cfg = anoframe.load_config(tiny_config, {"data.root": str(normal_images)})
    run = anoframe.train(cfg, ["felt"], tmp_path / "runs")
    result = json.loads((run.folder / "results/felt.json").read_text())
    assert set(run.metrics["felt"].values()) == {None}
    assert result["threshold"] is not None
    assert result["counts"] == {"train": 12, "test_good": 0, "test_defect": 0, "defects_cropped_away": 0}
    assert (run.folder / "report.html").is_file()
    assert run.predict(normal_images / "felt/train/good/000.png").score.isfinite()
    assert set(anoframe.test(run.folder, output=tmp_path / "tests").metrics["felt"].values()) == {None}


def test_a_mask_rule_is_part_of_the_provenance_and_can_be_changed_for_a_test(train_tiny, tmp_path):
    run = train_tiny(["felt"], data__resize=48, data__crop=48)
    assert json.loads((run.folder / "metrics.json").read_text())["provenance"]["data"]["mask_rule"] == "half"
    cfg = anoframe.load_config(run.folder, {"data.mask_rule": "any"})
    tested = anoframe.test(run.folder, cfg, output=tmp_path)
    assert tested.metrics["felt"]["pixel_auroc"] != run.metrics["felt"]["pixel_auroc"]
    assert tested.metrics["felt"]["image_auroc"] == run.metrics["felt"]["image_auroc"]
