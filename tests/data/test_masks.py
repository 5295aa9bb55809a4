"""Masks: joining of several files, and their entries in the image cache."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from anoframe.data.cached_reader import Reader
from anoframe.data.dataset import open_dataset
from anoframe.data.masks import join_masks, read_mask
from anoframe.data.preprocessing import Preprocessing
from anoframe.data.validation import check_dataset
from anoframe.errors import AnoframeError
from anoframe.utils.tensor_cache import TensorCache

SMALL = Preprocessing(16, 16, keep_aspect=False)


def save_box(path, box, size=(24, 16), value=255):
    mask = Image.new("L", size)
    mask.paste(value, box)
    path.parent.mkdir(parents=True, exist_ok=True)
    mask.save(path)
    return path


@pytest.fixture
def folder_of_masks(tmp_path):
    """A folder with two masks of one image, and files that are not masks."""
    save_box(tmp_path / "m/000.png", (0, 0, 4, 4), value=255)
    save_box(tmp_path / "m/001.png", (10, 10, 12, 12), value=3)
    (tmp_path / "m/._000.png").write_bytes(b"not an image")
    (tmp_path / "m/notes.txt").touch()
    return tmp_path / "m"


def test_masks_of_a_folder_are_joined(folder_of_masks):
    expected = np.zeros((16, 24), bool)
    expected[:4, :4] = expected[10:12, 10:12] = True
    assert np.array_equal(read_mask(folder_of_masks), expected)
    assert np.array_equal(join_masks(sorted(folder_of_masks.glob("0*.png"))), expected)


def test_masks_of_one_image_have_one_size(folder_of_masks):
    save_box(folder_of_masks / "002.png", (0, 0, 2, 2), (20, 16))
    with pytest.raises(AnoframeError, match=r"002\.png: 20 x 16 pixels, but 000\.png of the same image 24 x 16"):
        read_mask(folder_of_masks)


def test_a_folder_without_masks_is_an_error(tmp_path):
    with pytest.raises(AnoframeError, match="a folder without a mask"):
        read_mask(tmp_path)


@pytest.fixture
def loco(tmp_path, category):
    """A category with a folder of masks for each defect image."""
    folder = category(tmp_path / "root/part")
    for path in sorted((folder / "ground_truth").glob("*/*_mask.png")):
        target = path.parent / path.name.removesuffix("_mask.png") / "000.png"
        target.parent.mkdir()
        path.rename(target)
    save_box(folder / "ground_truth/crack/000/001.png", (20, 12, 24, 16))
    return folder


def test_a_category_with_a_folder_of_masks_per_image_is_read(loco):
    dataset = open_dataset("folder", loco.parent)
    report = check_dataset(dataset, ["part"], decode=True)
    assert (report.problems, report.remarks, report.categories[0].masks) == ([], [], 4)


def test_a_joined_mask_is_cached_by_the_content_of_all_files(loco, tmp_path):
    dataset, cache = open_dataset("folder", loco.parent), TensorCache(tmp_path / "cache", 10**8)
    sample = next(sample for sample in dataset.samples("part") if sample.mask)
    masks = [Reader(SMALL, c).mask(sample) for c in (None, cache, cache)]
    assert masks[0].equal(masks[1])
    assert masks[0].equal(masks[2])
    save_box(loco / "ground_truth/crack/000/001.png", (20, 0, 24, 16))
    assert Reader(SMALL, cache).mask(sample).sum() > masks[0].sum()


def test_a_mask_file_is_preferred_to_a_folder_of_its_name(loco):
    save_box(loco / "ground_truth/crack/000_mask.png", (0, 0, 4, 4))
    report = check_dataset(open_dataset("folder", loco.parent), ["part"])
    assert len(report.problems) == 2
    assert all("ground_truth/crack/000/00" in problem for problem in report.problems)


def test_a_damaged_file_among_several_is_named(loco):
    (loco / "ground_truth/crack/000/001.png").write_bytes(b"")
    report = check_dataset(open_dataset("folder", loco.parent), ["part"])
    assert [problem for problem in report.problems if "crack/000/001.png: zero bytes" in problem] == report.problems
