"""KolektorSDD2: normal by an empty mask; defective training images and the known copies are left out and counted."""

from __future__ import annotations

import pytest
from published_layouts import build_ksdd2

from anoframe.data.dataset import open_dataset
from anoframe.data.validation import check_dataset
from anoframe.errors import AnoframeError


def test_an_image_with_an_empty_mask_is_normal(tmp_path):
    samples = open_dataset("ksdd2", build_ksdd2(tmp_path)).samples("ksdd2")
    assert [(sample.name, sample.defect) for sample in samples] == [
        ("train/10000.png", "good"),
        ("train/10001.png", "good"),
        ("test/20000.png", "good"),
        ("test/20001.png", "defect"),
        ("test/20002.png", "defect"),
    ]
    assert samples[3].mask == tmp_path / "test/20001_GT.png"
    assert samples[2].mask is None


def test_what_is_left_out_is_counted(tmp_path):
    report = check_dataset(open_dataset("ksdd2", build_ksdd2(tmp_path)), ["ksdd2"])
    assert report.problems == []
    assert "ksdd2: 1 image with a defect in the train split, left out" in report.remarks
    assert "ksdd2: 2 images that are copies of others in the download, left out" in report.remarks
    assert any(remark.startswith("ksdd2: 4 images that are masks of normal images") for remark in report.remarks)


def test_an_image_without_a_mask_has_no_label(tmp_path):
    root = build_ksdd2(tmp_path)
    (root / "test/20000_GT.png").unlink()
    with pytest.raises(AnoframeError, match=r"20000\.png: no mask 20000_GT\.png, which decides"):
        open_dataset("ksdd2", root).samples("ksdd2")


def test_a_damaged_mask_is_named(tmp_path):
    root = build_ksdd2(tmp_path)
    (root / "train/10000_GT.png").write_bytes(b"")
    with pytest.raises(AnoframeError, match=r"10000_GT\.png"):
        open_dataset("ksdd2", root).samples("ksdd2")
