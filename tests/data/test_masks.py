"""Masks: joining of several files, and their entries in the image cache."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from anoframe.data.cached_reader import Reader
from anoframe.data.dataset import open_dataset
from anoframe.data.image_decoding import read_image
from anoframe.data.masks import MaskSettings, join_masks, read_mask, resize_mask
from anoframe.data.preprocessing import Preprocessing
from anoframe.data.validation import check_dataset
from anoframe.errors import AnoframeError
from anoframe.types import Sample
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


# ------------------------------------------------------------------------------------------------ rule of resized masks


def test_the_rule_decides_which_resized_pixels_are_defect():
    mask = np.zeros((64, 64), bool)
    mask[10:31, 10:31] = True
    counts = {rule: resize_mask(mask, SMALL, rule).sum() for rule in ("covered", "half", "any")}
    assert 0 < counts["covered"] < counts["half"] < counts["any"]
    assert np.array_equal(resize_mask(mask, SMALL), resize_mask(mask, SMALL, "half"))


def test_masks_of_different_rules_are_different_cache_entries(tmp_path):
    cache = TensorCache(tmp_path / "cache", 10**8)
    mask = save_box(tmp_path / "m.png", (10, 10, 31, 31), (64, 64))
    image = save_box(tmp_path / "i.png", (0, 0, 1, 1), (64, 64))
    sample = Sample(image, "part", "test", "cut", mask)
    for rule in ("half", "covered", "any"):
        settings = MaskSettings(rule)
        cached = [Reader(SMALL, c, settings).mask(sample) for c in (cache, cache, None)]
        assert cached[0].equal(cached[2])
        assert cached[1].equal(cached[2])


@pytest.mark.parametrize(("key", "value"), [("rule", "hlaf"), ("frame", "exif")])
def test_unknown_settings_are_errors(key, value):
    with pytest.raises(AnoframeError, match=f"data.mask_{key}: unknown value '{value}'"):
        MaskSettings(**{key: value})


# ------------------------------------------------------------------------------------------------ frame of masks


def save_turned(path, orientation, size):
    """Save an image and return its stored pixels, which EXIF turns."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), (2, 2, 10, 7))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, exif=exif)
    return image


@pytest.mark.parametrize("size", [(24, 16), (16, 16)])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_stored_mask_is_turned_as_its_image(tmp_path, orientation, size, suffix):
    path = tmp_path / f"i.{suffix}"
    save_turned(path, orientation, size).convert("L").save(tmp_path / "m.png")
    sample, settings = Sample(path, "part", "test", "cut", tmp_path / "m.png"), MaskSettings(frame="stored")
    preprocessing = Preprocessing(32, 32, keep_aspect=False)
    mask = Reader(preprocessing, masks=settings).mask(sample)[0].numpy()
    expected = preprocessing.to_array(read_image(path))[..., 0] > 127
    assert (mask != expected).mean() < 0.02  # JPEG noise at the edge


@pytest.fixture
def turned(tmp_path, category):
    """Return a function that turns the defects of a category by EXIF, and not their masks."""

    def write(orientation, size=(24, 16)):
        folder = category(tmp_path / "root/part")
        for path in sorted((folder / "test/crack").glob("*.png")):
            save_turned(path, orientation, size)
            save_box(folder / f"ground_truth/crack/{path.stem}_mask.png", (2, 2, 10, 7), size)
        return folder

    return write


def check(folder, *arguments):
    return check_dataset(open_dataset("folder", folder.parent), ["part"], True, False, *arguments)


@pytest.mark.parametrize(("orientation", "size"), [(3, (24, 16)), (2, (24, 16)), (6, (16, 16)), (8, (16, 16))])
def test_masks_that_may_lie_on_stored_pixels_are_a_remark(turned, orientation, size):
    folder = turned(orientation, size)
    words = (
        "part: 2 images with a mask are turned or mirrored by EXIF, and the masks are taken to lie on the {} picture"
    )
    for frame in ("upright", "stored"):
        report = check(folder, MaskSettings(frame=frame))
        assert report.problems == []
        assert [words.format(frame) in remark for remark in report.remarks] == [True]


def test_a_quarter_turn_decides_the_frame_by_the_size_of_the_mask(turned):
    folder = turned(6)
    problems = check(folder).problems
    assert len(problems) == 2
    assert "24 x 16 pixels, its image" in problems[0]
    assert "set data.mask_frame stored if the masks lie on the stored picture" in problems[0]
    report = check(folder, MaskSettings(frame="stored"))
    assert (report.problems, report.remarks) == ([], [])


def test_masks_that_are_turned_as_their_images_are_no_remark(turned):
    folder = turned(3)
    for path in sorted((folder / "ground_truth/crack").glob("*.png")):
        save_turned(path, 3, (24, 16))
    assert check(folder).remarks == []


# ------------------------------------------------------------------------------------------------ lost and stray masks


def test_masks_that_the_resolution_loses_are_a_remark(loco):
    remarks = check(loco, MaskSettings("covered"), Preprocessing(4, 4, keep_aspect=False)).remarks
    assert len(remarks) == 1
    assert "masks lose every defect pixel at data.resize 4, data.crop 4 and data.mask_rule covered" in remarks[0]
    assert check(loco, MaskSettings("any"), Preprocessing(4, 4, keep_aspect=False)).remarks == []


@pytest.mark.parametrize("name", ["000_gt.png", "000_MASK.PNG", "000_mask_0.png"])
def test_the_problem_of_a_stray_mask_names_the_expected_file_and_size(tmp_path, category, name):
    folder = category(tmp_path / "root/part")
    (folder / "ground_truth/crack/000_mask.png").rename(folder / "ground_truth/crack" / name)
    problems = check(folder).problems
    assert any("000.png: no mask" in problem and "24 x 16 pixels" in problem for problem in problems)
    stray = next(problem for problem in problems if "without a defect image" in problem)
    assert "test/crack/000.png is 000_mask.png (its size is 24 x 16 pixels)" in stray
    assert "several masks of it belong in a folder crack/000" in stray
