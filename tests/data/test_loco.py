"""MVTec LOCO: masks of several files, validation images, and saturation areas."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from published_layouts import build_loco, mask

from anoframe.data.cached_reader import Reader
from anoframe.data.dataset import open_dataset
from anoframe.data.loco import LOCO_COUNTS
from anoframe.data.masks import read_mask
from anoframe.data.preprocessing import Preprocessing
from anoframe.data.validation import check_dataset
from anoframe.errors import AnoframeError
from anoframe.metrics import auspro


@pytest.fixture
def dataset(tmp_path):
    return open_dataset("loco", build_loco(tmp_path / "data"))


def test_counts_add_up_to_the_published_totals():
    assert [sum(column) for column in zip(*LOCO_COUNTS.values(), strict=True)] == [1778, 575, 993]


def test_samples_have_their_folder_of_masks(dataset):
    samples = dataset.samples("juice_bottle")
    assert [(sample.split, sample.name) for sample in samples] == [
        *(("train", f"good/{number:03d}.png") for number in range(3)),
        ("test", "good/000.png"),
        ("test", "logical_anomalies/000.png"),
        ("test", "logical_anomalies/001.png"),
        ("test", "structural_anomalies/000.png"),
    ]
    assert samples[5].mask == dataset.root / "juice_bottle/ground_truth/logical_anomalies/001"
    joined = np.zeros((16, 24), bool)
    joined[4:10, 4:10] = joined[0:10, 12:20] = True
    assert (read_mask(samples[5].mask) == joined).all()


def test_both_regions_of_a_mask_reach_the_batches(dataset):
    sample = dataset.samples("juice_bottle")[5]
    read = Reader(Preprocessing(resize=64, crop=64)).mask(sample)
    assert read[0, :, :32].any()
    assert read[0, :, 32:].any()


def test_validation_images_are_counted_and_not_used(dataset):
    report = check_dataset(dataset, ["juice_bottle"])
    assert report.problems == []
    expected = "juice_bottle: 2 images of validation/good, used neither for training nor for testing"
    assert expected in report.remarks
    assert not any("validation" in sample.image.parts for sample in dataset.samples("juice_bottle"))
    assert report.categories[0].official == LOCO_COUNTS["juice_bottle"]
    assert any("not the official split" in remark for remark in report.remarks)


def test_regions_have_the_saturation_areas_of_the_config(dataset):
    samples = dataset.samples("juice_bottle")
    assert dataset.regions(samples[0]) == []
    regions = dataset.regions(samples[5])
    assert [int(region.sum()) for region, _ in regions] == [36, 80]
    assert [area for _, area in regions] == [20, 40], "20 pixels, and half of 80"
    regions_of_all = [dataset.regions(sample) for sample in samples[3:]]
    maps = np.stack([read_mask(sample.mask) if sample.mask else np.zeros((16, 24)) for sample in samples[3:]])
    assert auspro(regions_of_all, maps.astype(float)) == 1.0


def test_an_absolute_threshold_is_cut_to_the_region(dataset):
    sample = dataset.samples("juice_bottle")[4]
    mask(sample.mask / "000.png", (0, 0, 2, 2))
    assert dataset.regions(sample)[0][1] == 4


def test_a_damaged_config_or_an_unknown_value_is_an_error(dataset):
    sample = dataset.samples("juice_bottle")[4]
    mask(sample.mask / "000.png", value=7)
    with pytest.raises(AnoframeError, match=r"000\.png: holds the values \[7\]; expected one of \[254, 255\]"):
        dataset.regions(sample)
    Image.new("RGB", (24, 16), (255, 255, 255)).save(sample.mask / "000.png")
    with pytest.raises(AnoframeError, match=r"000\.png: a mask in colour"):
        dataset.regions(sample)
    (dataset.folder("juice_bottle") / "defects_config.json").write_text("[{}]")
    with pytest.raises(AnoframeError, match=r"defects_config\.json: no readable list"):
        dataset.regions(sample)
