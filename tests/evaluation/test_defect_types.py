"""Metrics of each defect type, against those of a dataset that has no other type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anoframe.evaluation import defect_types
from anoframe.evaluation.defect_types import metrics_by_defect
from anoframe.evaluation.predictions import CategoryPredictions
from anoframe.metrics import image_metrics, pixel_metrics
from anoframe.types import Sample

KINDS = ["good"] * 4 + ["cut"] * 3 + ["dent"] * 2


def predictions(kinds=KINDS, has_maps=True, without_mask=()):
    """Random maps, higher in the masks."""
    rng = np.random.default_rng(0)
    labels = np.array([kind != "good" for kind in kinds])
    samples = [
        Sample(Path(f"{i}.png"), "felt", "test", kind, Path("mask.png") if label and i not in without_mask else None)
        for i, (kind, label) in enumerate(zip(kinds, labels, strict=True))
    ]
    masks = np.zeros((len(kinds), 8, 8), bool)
    masks[labels, 2:5, 3:6] = True
    maps = (rng.random(masks.shape) + 0.5 * masks).astype(np.float32)
    return CategoryPredictions(samples, labels, maps.max((1, 2)), maps if has_maps else None, masks, {})


@pytest.mark.parametrize("kind", ["cut", "dent"])
def test_metrics_are_those_of_good_images_and_one_type(kind):
    whole = predictions()
    rows = [i for i, sample in enumerate(whole.samples) if sample.defect in ("good", kind)]
    expected = image_metrics(whole.labels[rows], whole.scores[rows])
    expected |= pixel_metrics(whole.masks[rows], whole.maps[rows])
    assert metrics_by_defect(whole)[kind] == {name: expected[name] for name in defect_types.NAMES}


def test_the_only_type_has_the_metrics_of_the_category():
    alone = predictions(["good"] * 4 + ["cut"] * 3)
    expected = image_metrics(alone.labels, alone.scores) | pixel_metrics(alone.masks, alone.maps)
    assert metrics_by_defect(alone) == {"cut": {name: expected[name] for name in defect_types.NAMES}}


def test_a_missing_mask_costs_the_pixel_metrics_of_its_type_alone():
    metrics = metrics_by_defect(predictions(without_mask=(4,)))
    assert metrics["cut"]["aupro"] is None
    assert metrics["cut"]["image_auroc"] is not None
    assert metrics["dent"]["aupro"] is not None


def test_image_level_methods_have_image_metrics_alone():
    assert {name for name, value in metrics_by_defect(predictions(has_maps=False))["cut"].items() if value is None} == {
        "pixel_auroc",
        "pixel_ap",
        "aupro",
    }


def test_without_good_images_there_is_no_image_auroc():
    assert metrics_by_defect(predictions(["cut", "cut", "dent"]))["cut"]["image_auroc"] is None


def test_without_defects_there_is_no_type():
    assert metrics_by_defect(predictions(["good"] * 3)) == {}


def test_huge_test_sets_have_image_metrics_alone(monkeypatch):
    monkeypatch.setattr(defect_types, "MOST_PIXELS", 100)
    assert metrics_by_defect(predictions())["cut"]["pixel_auroc"] is None
