"""Folders of normal and defective images without a split: good/ and bad/."""

from __future__ import annotations

import shutil

import pytest

from anoframe.data.dataset import NormalSplit, open_dataset
from anoframe.data.validation import check_dataset
from anoframe.errors import AnoframeError


@pytest.fixture
def unsplit(tmp_path, picture):
    """Return a function that writes a category with ten normal and two defective images."""

    def write(normal="good", defect="bad", root="root/part"):
        for number in range(10):
            picture(tmp_path / root / normal / f"{number:03d}.png", seed=number)
        for number in range(2):
            picture(tmp_path / root / defect / f"{number:03d}.png", seed=20 + number)
        return tmp_path / root

    return write


def split_names(dataset, category="part"):
    samples = dataset.samples(category)
    return [{s.image.name for s in samples if s.split == split and not s.is_defect} for split in ("train", "test")]


@pytest.mark.parametrize(
    ("normal", "defect"), [("good", "bad"), ("normal", "abnormal"), ("OK", "NG"), ("Good", "dent")]
)
def test_normal_images_are_divided_and_defects_are_tested(unsplit, normal, defect):
    dataset = open_dataset("folder", unsplit(normal, defect).parent)
    assert dataset.categories == ("part",)
    report = check_dataset(dataset, ["part"])
    assert report.problems == []
    assert report.categories[0].counts == (8, 2, 2)
    assert report.categories[0].defects == {defect: 2}
    assert "8 are for training and 2 for testing (data.train_share 0.8, data.split_seed 0)" in report.remarks[0]


def test_the_split_depends_on_names_and_seed_only(unsplit, tmp_path):
    root = unsplit().parent
    train, test = split_names(open_dataset("folder", root))
    assert (len(train), len(test), train & test) == (8, 2, set())
    assert (train, test) == ({f"{n:03d}.png" for n in range(10)} - test, test)
    shutil.copytree(root, tmp_path / "copy")
    assert split_names(open_dataset("folder", tmp_path / "copy")) == [train, test]
    splits = [split_names(open_dataset("folder", root, NormalSplit(0.8, seed))) for seed in range(5)]
    assert len({tuple(sorted(test)) for _, test in splits}) > 1
    assert [len(test) for _, test in splits] == [2] * 5


def test_the_share_is_that_of_the_config(unsplit):
    train, test = split_names(open_dataset("folder", unsplit().parent, NormalSplit(0.5)))
    assert (len(train), len(test)) == (5, 5)


@pytest.mark.parametrize(("count", "sizes"), [(1, (1, 0)), (2, (1, 1)), (3, (2, 1)), (5, (4, 1))])
def test_both_parts_have_an_image_if_possible(tmp_path, count, sizes):
    parts = NormalSplit().divide([tmp_path / f"{number}.png" for number in range(count)])
    assert tuple(map(len, parts)) == sizes


def test_a_root_without_a_split_is_the_only_category(unsplit):
    assert open_dataset("folder", unsplit()).categories == ("part",)


def test_masks_are_found(unsplit, drawn_mask):
    folder = unsplit()
    for number in range(2):
        drawn_mask(folder / f"ground_truth/bad/{number:03d}_mask.png")
    report = check_dataset(open_dataset("folder", folder), ["part"])
    assert (report.problems, report.categories[0].masks) == ([], 2)


def test_a_folder_of_normal_images_beside_categories_is_no_category(unsplit, category):
    folder = unsplit()
    category(folder / "gear")
    assert open_dataset("folder", folder).categories == ("gear",)


def test_the_train_folder_of_a_category_is_no_root(tmp_path, category):
    category(tmp_path / "part")
    with pytest.raises(AnoframeError, match="no category found"):
        open_dataset("folder", tmp_path / "part/train")


def test_a_category_in_other_capitals_is_named(tmp_path, category):
    (category(tmp_path / "part") / "train").rename(tmp_path / "part/Train")
    (tmp_path / "part/test").rename(tmp_path / "part/TEST")
    with pytest.raises(AnoframeError, match="part/TEST is not read; rename it to test, in lower case"):
        open_dataset("folder", tmp_path)
