"""Metrics of categories, their mean, and how they are written and shown."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from anoframe.evaluation.predictions import CategoryPredictions
from anoframe.evaluation.results import Results, category_metrics
from anoframe.metrics.catalogue import HEADLINE
from anoframe.types import Sample

RNG = np.random.default_rng(0)


def predictions(defects=2, good=2, masked=True):
    """Defects first, each with a marked square, which scores higher than the rest."""
    kinds = ["cut"] * defects + ["good"] * good
    mask = [Path("mask.png") if masked and kind != "good" else None for kind in kinds]
    samples = [Sample(Path("x.png"), "felt", "test", kind, m) for kind, m in zip(kinds, mask, strict=True)]
    labels = np.array([kind != "good" for kind in kinds])
    masks = np.zeros((len(kinds), 8, 8), bool)
    masks[labels & masked, 2:5, 2:5] = True
    maps = (RNG.random(masks.shape) + masks).astype(np.float32)
    return CategoryPredictions(samples, labels, maps.max((1, 2)), maps, masks, {})


@pytest.fixture
def results():
    return Results({"felt": {"image_auroc": 0.1 + 0.2, "aupro": None}, "mesh": {"image_auroc": 1.0, "aupro": 0.5}})


# ------------------------------------------------------------------------------------------------ of a category


def test_the_headline_metrics_are_there_in_their_order():
    assert tuple(category_metrics(predictions(), (0.3,), ())) == (*HEADLINE, "pro_per_image")


@pytest.mark.parametrize("limits", [(), (0.05,), (0.05, 0.3)])
def test_aupro_is_always_the_one_of_the_standard_limit(limits):
    found = predictions()
    assert category_metrics(found, limits, ())["aupro"] == category_metrics(found, (0.3,), ())["aupro"]


def test_thresholds_add_metrics():
    added = set(category_metrics(predictions(), (0.3,), (1.0,))) - set(category_metrics(predictions(), (0.3,), ()))
    assert {"pixel_f1_at_1.0", "pixel_accuracy_at_1.0", "pixel_iou_at_1.0"} == added


def test_defects_without_masks_have_no_pixel_metric():
    found = category_metrics(predictions(masked=False), (0.3,), (1.0,))
    assert {name for name, value in found.items() if value is not None} == {"image_auroc", "image_ap", "image_f1max"}


def test_one_mask_missing_takes_the_pixel_metrics_away():
    found = predictions()
    found.samples[0] = Sample(Path("x.png"), "felt", "test", "cut")
    assert category_metrics(found, (0.3,), ())["aupro"] is None


@pytest.mark.parametrize("sizes", [{"defects": 0}, {"good": 0}])
def test_one_kind_of_image_has_no_image_auroc(sizes):
    assert category_metrics(predictions(**sizes), (0.3,), ())["image_auroc"] is None


def test_defects_outside_the_crop_are_counted():
    found = predictions()
    found.masks[0] = False
    assert found.masks_lost_to_crop == 1


# ------------------------------------------------------------------------------------------------ of a run


def test_the_mean_is_over_what_is_available(results):
    assert results.mean == {"image_auroc": (0.1 + 0.2 + 1.0) / 2, "aupro": 0.5}


def test_what_is_available_nowhere_has_no_mean():
    assert Results({"felt": {"aupro": None}}).mean == {"aupro": None}


def test_a_metric_of_one_category_is_in_the_mean():
    assert Results({"felt": {}, "mesh": {"aupro": 0.5}}).mean == {"aupro": 0.5}


def test_json_keeps_every_digit_and_null(results, tmp_path):
    results.write(tmp_path)
    stored = json.loads((tmp_path / "metrics.json").read_text())
    assert stored == {"categories": results.categories, "mean": results.mean, "provenance": {}}


def test_results_come_back(results, tmp_path):
    results.provenance["seed"] = 3
    results.write(tmp_path)
    assert Results.read(tmp_path) == results


def test_csv_has_a_row_a_category_and_the_mean(results, tmp_path):
    results.write(tmp_path)
    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows] == ["category", "felt", "mesh", "mean"]


def test_csv_keeps_every_digit_and_leaves_out_what_is_not_available(results):
    assert results.csv().splitlines()[1] == "felt,0.30000000000000004,"


def test_nothing_is_written_of_a_number_that_is_none(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        Results({"felt": {"aupro": float("nan")}}).write(tmp_path)
    assert not (tmp_path / "metrics.json").exists()


def test_the_table_shows_percent_and_not_available(results):
    rows = {line.split()[0]: line.split()[1:] for line in results.table().splitlines()}
    assert rows["felt"] == ["30.00", *["n/a"] * 7]
    assert rows["mean"][:7] == ["65.00", *["n/a"] * 5, "50.00"]


def test_the_table_of_one_category_needs_no_mean():
    assert len(Results({"felt": {"aupro": 0.5}}).table().splitlines()) == 2


def test_the_table_says_that_the_epoch_was_chosen_on_the_test_set():
    results = Results({"felt": {"aupro": 0.5}}, {"selected": "best on test"})
    assert results.table().splitlines()[-1].startswith("the epoch was chosen on the test set")


def test_the_columns_of_the_table_are_flush(results):
    assert len({len(line) for line in results.table().splitlines()}) == 1
