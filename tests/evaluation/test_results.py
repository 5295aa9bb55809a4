"""Per-category metrics, their mean, files and console table."""

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


def predictions(defects=2, normal=2, has_masks=True):
    """Predictions of defects, then normal images; each defect has a square with higher scores in its mask."""
    labels = np.arange(defects + normal) < defects
    mask_file = Path("mask.png") if has_masks else None
    samples = [
        Sample(Path("x.png"), "felt", "test", "cut" if defect else "good", mask_file if defect else None)
        for defect in labels
    ]
    masks = np.zeros((len(labels), 8, 8), bool)
    masks[labels & has_masks, 2:5, 2:5] = True
    maps = (RNG.random(masks.shape) + masks).astype(np.float32)
    return CategoryPredictions(samples, labels, maps.max((1, 2)), maps, masks, {})


@pytest.fixture
def results():
    return Results({"felt": {"image_auroc": 0.1 + 0.2, "aupro": None}, "mesh": {"image_auroc": 1.0, "aupro": 0.5}})


# ------------------------------------------------------------------------------------------------ category


def test_category_has_the_metrics_of_the_catalogue_in_its_order():
    assert tuple(category_metrics(predictions(), (0.3,), ())) == (*HEADLINE, "pro_per_image")


@pytest.mark.parametrize("limits", [(), (0.05,), (0.05, 0.3)])
def test_aupro_always_has_the_standard_limit(limits):
    tested = predictions()
    assert category_metrics(tested, limits, ())["aupro"] == category_metrics(tested, (0.3,), ())["aupro"]


def test_thresholds_add_metrics():
    added = set(category_metrics(predictions(), (0.3,), (1.0,))) - set(category_metrics(predictions(), (0.3,), ()))
    assert {"pixel_f1_at_1.0", "pixel_accuracy_at_1.0", "pixel_iou_at_1.0"} == added


def test_defects_without_masks_have_no_pixel_metrics():
    metrics = category_metrics(predictions(has_masks=False), (0.3,), (1.0,))
    assert {name for name, value in metrics.items() if value is not None} == {"image_auroc", "image_ap", "image_f1max"}


def test_a_single_missing_mask_makes_pixel_metrics_unavailable():
    tested = predictions()
    tested.samples[0] = Sample(Path("x.png"), "felt", "test", "cut")
    assert category_metrics(tested, (0.3,), ())["aupro"] is None


@pytest.mark.parametrize("sizes", [{"defects": 0}, {"normal": 0}])
def test_single_class_has_no_image_auroc(sizes):
    assert category_metrics(predictions(**sizes), (0.3,), ())["image_auroc"] is None


def test_samples_whose_defect_pixels_are_lost_are_listed():
    tested = predictions()
    tested.masks[0] = False
    assert tested.samples_without_pixels == [tested.samples[0]]


# ------------------------------------------------------------------------------------------------ run


def test_mean_is_over_available_values(results):
    assert results.mean == {"image_auroc": (0.1 + 0.2 + 1.0) / 2, "aupro": 0.5}


def test_metric_available_in_no_category_has_no_mean():
    assert Results({"felt": {"aupro": None}}).mean == {"aupro": None}


def test_metric_of_one_category_is_in_the_mean():
    assert Results({"felt": {}, "mesh": {"aupro": 0.5}}).mean == {"aupro": 0.5}


def test_json_keeps_every_digit_and_null(results, tmp_path):
    results.write(tmp_path)
    stored = json.loads((tmp_path / "metrics.json").read_text())
    assert stored == {"categories": results.categories, "mean": results.mean, "provenance": {}}


def test_results_can_be_read_back(results, tmp_path):
    results.provenance["seed"] = 3
    results.write(tmp_path)
    assert Results.read(tmp_path) == results


def test_results_are_combined_from_categories():
    evaluated = {
        "felt": {
            "metrics": {"image_auroc": 1.0, "aupro": None},
            "backbone": {"name": "tiny"},
            "counts": {"train": 6},
            "threshold": None,
        }
    }
    combined = Results.from_categories({"seed": 3}, evaluated, {"mesh": "no test images"})
    assert combined.categories == {"felt": {"image_auroc": 1.0, "aupro": None}}
    assert combined.failed == {"mesh": "no test images"}
    assert combined.provenance == {
        "seed": 3,
        "backbone": {"name": "tiny"},
        "counts": {"felt": {"train": 6}},
        "thresholds": {"felt": None},
        "not_available": {"felt": ["aupro"]},
        "failed": {"mesh": "no test images"},
    }


def test_csv_has_one_row_per_category_and_the_mean(results, tmp_path):
    results.write(tmp_path)
    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows] == ["category", "felt", "mesh", "mean"]


def test_csv_keeps_every_digit_and_is_empty_where_not_available(results):
    assert results.csv().splitlines()[1] == "felt,0.30000000000000004,"


def test_nan_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        Results({"felt": {"aupro": float("nan")}}).write(tmp_path)
    assert not (tmp_path / "metrics.json").exists()


def test_table_shows_percent_and_not_available(results):
    rows = {line.split()[0]: line.split()[1:] for line in results.table().splitlines()}
    assert rows["felt"] == ["30.00", *["n/a"] * 7]
    assert rows["mean"][:7] == ["65.00", *["n/a"] * 5, "50.00"]


def test_table_of_one_category_has_no_mean():
    assert len(Results({"felt": {"aupro": 0.5}}).table().splitlines()) == 2


def test_table_notes_that_the_epoch_was_chosen_on_the_test_set():
    results = Results({"felt": {"aupro": 0.5}}, {"selected": "best on test"})
    assert results.table().splitlines()[-1].startswith("the epoch was chosen on the test set")


def test_columns_of_the_table_are_aligned(results):
    assert len({len(line) for line in results.table().splitlines()}) == 1
