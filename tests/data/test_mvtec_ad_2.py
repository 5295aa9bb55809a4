"""MVTec AD 2: the public test set; private test sets and validation images are counted."""

from __future__ import annotations

from published_layouts import build_mvtec_ad_2

from anoframe.data.dataset import open_dataset
from anoframe.data.mvtec_ad_2 import MVTEC_AD_2_COUNTS
from anoframe.data.validation import check_dataset


def test_all_eight_categories_have_counts():
    assert len(MVTEC_AD_2_COUNTS) == 8
    assert MVTEC_AD_2_COUNTS["vial"] == (291, 35, 105)


def test_only_the_public_test_set_is_used(tmp_path):
    dataset = open_dataset("mvtec_ad_2", build_mvtec_ad_2(tmp_path))
    samples = dataset.samples("fruit_jelly")
    assert [(sample.split, sample.name) for sample in samples] == [
        ("train", "good/000_regular.png"),
        ("train", "good/001_regular.png"),
        ("test", "bad/000_regular.png"),
        ("test", "bad/001_regular.png"),
        ("test", "good/000_regular.png"),
    ]
    assert samples[2].mask == tmp_path / "fruit_jelly/test_public/ground_truth/bad/000_regular_mask.png"


def test_what_is_left_out_is_counted(tmp_path):
    remarks = check_dataset(open_dataset("mvtec_ad_2", build_mvtec_ad_2(tmp_path)), ["fruit_jelly"]).remarks
    assert "fruit_jelly: 1 image of validation/good, used neither for training nor for testing" in remarks
    assert "fruit_jelly: 2 images of test_private, which has no labels" in remarks
    assert "fruit_jelly: 1 image of test_private_mixed, which has no labels" in remarks
