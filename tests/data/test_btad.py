"""BTAD: folders ok and ko, and published masks that are empty."""

from __future__ import annotations

from published_layouts import build_btad, mask

from anoframe.data.btad import BTAD_COUNTS
from anoframe.data.dataset import open_dataset
from anoframe.data.validation import check_dataset


def test_counts_add_up_to_the_published_totals():
    assert [sum(column) for column in zip(*BTAD_COUNTS.values(), strict=True)] == [1799, 451, 290]


def test_ok_is_good_and_ko_the_only_defect_type(tmp_path):
    dataset = open_dataset("btad", build_btad(tmp_path))
    samples = dataset.samples("03")
    assert [(sample.split, sample.name, sample.defect) for sample in samples] == [
        ("train", "ok/0000.bmp", "good"),
        ("train", "ok/0001.bmp", "good"),
        ("test", "ko/0000.bmp", "ko"),
        ("test", "ko/0001.bmp", "ko"),
        ("test", "ok/0000.bmp", "good"),
    ]
    assert samples[2].mask == tmp_path / "03/ground_truth/ko/0000.png"
    assert dataset.missing_categories == ("01", "02")


def test_published_empty_masks_are_a_remark(tmp_path):
    dataset = open_dataset("btad", build_btad(tmp_path))
    report = check_dataset(dataset, ["03"])
    assert report.problems == []
    assert "03: 1 mask without a pixel of the defect, as published" in report.remarks


def test_a_mask_without_an_image_is_a_problem(tmp_path):
    root = build_btad(tmp_path)
    mask(root / "03/ground_truth/ko/0009.png")
    assert any(
        "0009.png: a mask without" in problem for problem in check_dataset(open_dataset("btad", root), ["03"]).problems
    )
