"""Published layouts: a valid tree is listed without a problem, and a wrong name of its dataset is answered."""

from __future__ import annotations

import pytest
from published_layouts import BUILDERS, build_loco, build_mpdd

from anoframe.data.dataset import open_dataset
from anoframe.data.layouts import layout_hint, recognise_layout
from anoframe.data.validation import check_dataset
from anoframe.errors import AnoframeError

TITLES = {
    "loco": "MVTec LOCO",
    "mvtec_ad_2": "MVTec AD 2",
    "btad": "BTAD",
    "mpdd": "MPDD",
    "real_iad": "Real-IAD",
    "ksdd2": "KolektorSDD2",
    "csv": "a table of images",
}


@pytest.mark.parametrize("name", BUILDERS)
def test_a_valid_tree_has_no_problem(name, tmp_path):
    dataset = open_dataset(name, BUILDERS[name](tmp_path / "data"))
    report = check_dataset(dataset, dataset.categories, decode=True)
    assert report.problems == []
    assert not any("not used" in remark for remark in report.remarks), "all files are known"
    for category in dataset.categories:
        samples = dataset.samples(category)
        assert {sample.split for sample in samples} == {"train", "test"}
        assert all(sample.image.is_file() and sample.category == category for sample in samples)
        assert not any(sample.is_defect for sample in samples if sample.split == "train")
        assert all(bool(sample.mask) == sample.is_defect for sample in samples)
        for split in ("train", "test"):
            paths = [sample.image for sample in samples if sample.split == split]
            assert paths == sorted(paths)
        assert samples == sorted(samples, key=lambda sample: sample.split != "train")


@pytest.mark.parametrize("name", BUILDERS)
def test_a_layout_is_recognised_by_its_marks(name, tmp_path):
    assert recognise_layout(BUILDERS[name](tmp_path / "data")).name == name


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("wrong", ["mvtec", "visa", *BUILDERS])
def test_a_wrong_name_is_answered_by_the_right_one(name, wrong, tmp_path):
    root = BUILDERS[name](tmp_path / "data")
    if wrong == name:
        assert open_dataset(name, root).categories
        return
    with pytest.raises(AnoframeError, match=f"this looks like {TITLES[name]}: --data.name {name}\\b"):
        open_dataset(wrong, root)


@pytest.mark.parametrize("name", ["real_iad", "csv"])
def test_the_name_folder_is_answered_as_well(name, tmp_path):
    root = BUILDERS[name](tmp_path / "data")
    with pytest.raises(AnoframeError, match=f"this looks like {TITLES[name]}: --data.name {name}"):
        open_dataset("folder", root)


@pytest.mark.parametrize("name", ["btad", "mvtec_ad_2", "ksdd2"])
def test_problems_of_a_layout_that_opens_name_the_right_dataset(name, tmp_path):
    dataset = open_dataset("folder", BUILDERS[name](tmp_path / "data"))
    report = check_dataset(dataset, dataset.categories)
    assert f"remark: this looks like {TITLES[name]}: --data.name {name}" in report.table()
    if report.problems:
        with pytest.raises(AnoframeError, match=f"this looks like {TITLES[name]}: --data.name {name}"):
            report.raise_if_broken()


def test_a_category_or_a_parent_as_root_is_answered_with_the_root(tmp_path):
    root = build_loco(tmp_path / "sets/data")
    for wrong_root in (root / "juice_bottle", tmp_path / "sets"):
        with pytest.raises(AnoframeError, match=f"--data.name loco --data.root {root}"):
            open_dataset("mvtec", wrong_root)
    with pytest.raises(AnoframeError, match="is one category, not the dataset"):
        open_dataset("loco", root / "juice_bottle")
    with pytest.raises(AnoframeError, match="give that as the root"):
        open_dataset("loco", tmp_path / "sets")


def test_own_images_are_recognised_where_no_published_layout_is(tmp_path, category):
    category(tmp_path / "own/gear")
    for name in ("ksdd2", "csv", "real_iad", "mvtec", "loco"):
        with pytest.raises(AnoframeError, match=r"--data\.name folder"):
            open_dataset(name, tmp_path / "own")


def test_own_categories_with_published_names_are_not_called_published(tmp_path):
    assert layout_hint(build_mpdd(tmp_path / "data"), "folder") == ""


def test_an_empty_folder_looks_like_nothing(tmp_path):
    assert layout_hint(tmp_path, "mvtec") == ""
