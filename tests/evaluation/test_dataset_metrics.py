"""Metrics of MVTec LOCO, on a tree that the test builds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from loco_tree import KINDS, SIZE, save, write_loco

from anoframe.data.dataset import open_dataset
from anoframe.data.preprocessing import Preprocessing
from anoframe.errors import AnoframeError
from anoframe.evaluation.dataset_metrics import image_metrics_by_kind, spro_metrics
from anoframe.evaluation.predictions import CategoryPredictions
from anoframe.metrics import auroc, auspro

PREPROCESSING = Preprocessing(20, 20, keep_aspect=False)


@pytest.fixture
def dataset(tmp_path):
    return open_dataset("loco", write_loco(tmp_path))


@pytest.fixture
def predictions(dataset):
    samples = [sample for sample in dataset.samples("pushpins") if sample.split == "test"]
    rng = np.random.default_rng(1)
    labels = np.array([sample.is_defect for sample in samples])
    scores = (rng.random(len(samples)) + 0.3 * labels).astype(np.float32)
    maps = rng.random((len(samples), 20, 20)).astype(np.float32)
    return CategoryPredictions(samples, labels, scores, maps, np.zeros(maps.shape, bool), {})


def chosen(predictions, kind):
    return [i for i, sample in enumerate(predictions.samples) if sample.defect in ("good", kind)]


def test_image_auroc_of_a_kind_is_with_all_good_images(predictions, dataset):
    metrics = image_metrics_by_kind(predictions, dataset.defect_kinds)
    for name, kind in zip(("logical", "structural"), KINDS, strict=True):
        rows = chosen(predictions, kind)
        assert len(rows) == 5
        assert metrics[f"image_auroc_{name}"] == auroc(predictions.labels[rows], predictions.scores[rows])


def test_spro_is_that_of_maps_upsampled_to_the_photographs(predictions, dataset):
    metrics = spro_metrics(predictions, dataset, PREPROCESSING, (0.3,))
    full = torch.nn.functional.interpolate(torch.from_numpy(predictions.maps)[None], SIZE, mode="bilinear")[0].numpy()
    for limit in (0.05, 0.3):
        values = []
        for kind in KINDS:
            rows = chosen(predictions, kind)
            values.append(auspro([dataset.regions(predictions.samples[i]) for i in rows], full[rows], limit))
        assert metrics[f"auspro_{limit}"] == pytest.approx(np.mean(values), abs=3e-3)
        if limit == 0.05:
            assert metrics["auspro_0.05_logical"] == pytest.approx(values[0], abs=3e-3)
            assert metrics["auspro_0.05_structural"] == pytest.approx(values[1], abs=3e-3)
    assert list(metrics) == ["auspro_0.05", "auspro_0.05_logical", "auspro_0.05_structural", "auspro_0.3"]


def test_a_saturated_region_is_found_by_a_part_of_it(predictions, dataset):
    for row, sample in enumerate(predictions.samples):
        predictions.maps[row] = 0
        for mask, _ in dataset.regions(sample):
            rows, columns = np.nonzero(mask)
            top, left = int(rows.min()) // 2, int(columns.min()) * 20 // 56
            predictions.maps[row, top + 1 : top + 5, left + 1 : left + 6] = 1  # 4 x 5 of 6 x 6: 112 of 204 pixels
    assert spro_metrics(predictions, dataset, PREPROCESSING)["auspro_0.05"] > 0.9


def test_a_defect_that_the_crop_has_cut_off_is_missed(predictions, dataset):
    predictions.maps[:] = 0.5
    for sample in predictions.samples:
        if sample.mask:
            for file in sample.mask.iterdir():
                pixels = np.zeros(SIZE, np.uint8)
                pixels[:4] = 255
                save(file, pixels)
    assert spro_metrics(predictions, dataset, Preprocessing(30, 20, keep_aspect=False))["auspro_0.05"] == 0
    assert spro_metrics(predictions, dataset, PREPROCESSING)["auspro_0.05"] == pytest.approx(0.025)


def test_without_maps_masks_or_a_kind_it_is_not_available(predictions, dataset):
    without_maps = CategoryPredictions(predictions.samples, predictions.labels, predictions.scores, None, None, {})
    assert set(spro_metrics(without_maps, dataset, PREPROCESSING).values()) == {None}
    rows = chosen(predictions, KINDS[0])
    logical = CategoryPredictions(
        [predictions.samples[i] for i in rows],
        *(a[rows] for a in (predictions.labels, predictions.scores)),
        predictions.maps[rows],
        predictions.masks[rows],
        {},
    )
    metrics = spro_metrics(logical, dataset, PREPROCESSING)
    assert metrics["auspro_0.05_logical"] is not None
    assert metrics["auspro_0.05"] is metrics["auspro_0.05_structural"] is None
    assert image_metrics_by_kind(logical, dataset.defect_kinds)["image_auroc_structural"] is None


def test_an_unreadable_saturation_area_is_an_error(predictions, dataset):
    (dataset.folder("pushpins") / "defects_config.json").write_text("[]")
    with pytest.raises(AnoframeError, match="holds the values"):
        spro_metrics(predictions, dataset, PREPROCESSING)
