"""Dataset checks: every problem and remark names its file or category."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anoframe.data.dataset import open_dataset
from anoframe.data.duplicates import find_duplicates
from anoframe.data.validation import check_dataset
from anoframe.errors import AnoframeError

TOOL = Path(__file__).parents[2] / "tools" / "check_data.py"


@pytest.fixture
def folder(tmp_path, category):
    return category(tmp_path / "root" / "part")


def check_folder(folder, decode=True, follow_links=False):
    dataset = open_dataset("folder", folder.parent)
    return check_dataset(dataset, dataset.categories, decode, follow_links)


@pytest.mark.parametrize("decode", [False, True])
def test_a_valid_category_has_no_problems_and_no_remarks(folder, decode):
    report = check_folder(folder, decode)
    assert (report.problems, report.remarks) == ([], [])
    assert report.categories[0].counts == (3, 2, 4)
    assert report.categories[0].defects == {"crack": 2, "hole": 2}
    assert report.categories[0].masks == 4
    report.raise_if_broken()


def change_bytes(change):
    """Return a function that changes the content of one file."""

    def apply(folder, name):
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return apply


def save(array, **options):
    return lambda folder, name: Image.fromarray(array).save(folder / name, **options)


def copy(source):
    def apply(folder, name):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / source, folder / name)

    return apply


def frames(folder, name):
    image = Image.open(folder / name)
    image.save(folder / name, save_all=True, append_images=[image.rotate(90)])


def link_to_nothing(folder, name):
    (folder / name).unlink()
    (folder / name).symlink_to(folder / "gone.png")


PROBLEMS = {
    "empty file": ("train/good/000.png", change_bytes(lambda content: b""), "zero bytes"),
    "truncated": ("test/good/001.png", change_bytes(lambda content: content[:-40]), "truncated"),
    "not an image": ("test/crack/000.png", change_bytes(lambda content: b"hello"), "not an image"),
    "broken link": ("test/hole/000.png", link_to_nothing, "no such file"),
    "16 bits": ("train/good/001.png", save(np.zeros((16, 24), np.uint16)), "16-bit"),
    "frames": ("train/good/002.png", frames, "2 frames"),
    "truncated mask": ("ground_truth/hole/000_mask.png", change_bytes(lambda content: content[:-30]), "truncated"),
    "missing mask": ("test/crack/002.png", save(np.ones((16, 24, 3), np.uint8)), "no mask, although"),
    "orphan mask": (
        "ground_truth/crack/007_mask.png",
        copy("ground_truth/crack/000_mask.png"),
        "without a defect image",
    ),
    "good mask": ("ground_truth/good/000_mask.png", copy("ground_truth/crack/000_mask.png"), "without a defect image"),
    "size": ("ground_truth/crack/001_mask.png", save(np.ones((16, 20), np.uint8)), "20 x 16 pixels, its image"),
    "turned": ("ground_truth/crack/001_mask.png", save(np.ones((24, 16), np.uint8)), "16 x 24 pixels, its image"),
    "leak": ("test/good/000.png", copy("train/good/001.png"), "same bytes as training image"),
    "shared mask": ("test/crack/000.jpg", save(np.ones((16, 24, 3), np.uint8)), "the mask of 2 images"),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_quick_check_reports_the_file(folder, case):
    name, apply, words = PROBLEMS[case]
    apply(folder, name)
    report = check_folder(folder, decode=False)
    assert report.problems
    assert all(str(folder) in problem for problem in report.problems)
    assert any(Path(name).stem in problem and words in problem for problem in report.problems)
    with pytest.raises(AnoframeError, match=Path(name).name.split(".")[0]):
        report.raise_if_broken()


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".tif", ".webp"])
def test_quick_check_detects_truncation_in_every_format(tmp_path, category, suffix):
    folder = category(tmp_path / "root" / "part", suffix)
    assert not check_folder(folder, decode=False).problems
    path = folder / f"test/good/000{suffix}"
    path.write_bytes(path.read_bytes()[:-200])
    assert [problem for problem in check_folder(folder, decode=False).problems if str(path) in problem]


def test_trailing_bytes_after_a_complete_jpeg_are_no_problem(tmp_path, category):
    folder = category(tmp_path / "root" / "part", ".jpg")
    path = folder / "train/good/000.jpg"
    path.write_bytes(path.read_bytes() + bytes(5000))
    assert not check_folder(folder, decode=False).problems


@pytest.mark.parametrize("decode", [False, True])
def test_an_empty_mask_of_a_defect_is_a_problem(folder, decode):
    Image.new("L", (24, 16)).save(folder / "ground_truth/hole/001_mask.png")
    assert "001_mask.png: marks no pixel" in check_folder(folder, decode).problems[0]


def test_damage_in_the_middle_is_detected_by_decoding(folder, picture):
    path = picture(folder / "train/good/009.png", seed=9, size=(200, 200))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 50] = bytes(50)
    path.write_bytes(content)
    assert not check_folder(folder, decode=False).problems
    assert "009.png: damaged" in check_folder(folder).problems[0]


def test_sizes_are_compared_after_exif_orientation(folder):
    exif = Image.Exif()
    exif[0x0112] = 8
    image = Image.open(folder / "test/crack/000.png").transpose(Image.Transpose.ROTATE_270)
    image.save(folder / "test/crack/000.png", exif=exif)
    assert image.size == (16, 24)
    assert not check_folder(folder).problems


def test_empty_splits_are_problems(folder):
    shutil.rmtree(folder / "test")
    shutil.rmtree(folder / "train/good")
    problems = " ".join(check_folder(folder).problems)
    assert "no training image" in problems


def test_a_folder_of_normal_images_with_another_name_is_a_problem(folder):
    (folder / "test/good").rename(folder / "test/OK")
    assert any("test/OK counts as a defect" in problem for problem in check_folder(folder).problems)


REMARKS = {
    "no good": (lambda folder: shutil.rmtree(folder / "test/good"), "image AUROC and AP are not available"),
    "no masks": (lambda folder: shutil.rmtree(folder / "ground_truth"), "pixel metrics are not available"),
    "one train": (lambda folder: [(folder / f"train/good/00{n}.png").unlink() for n in (1, 2)], "one training image"),
    "grey": (
        lambda folder: Image.open(folder / "train/good/000.png").convert("L").save(folder / "train/good/000.png"),
        "1 images of mode L",
    ),
    "misplaced": (
        lambda folder: shutil.copy(folder / "train/good/000.png", folder / "train/000.png"),
        "1 image in neither",
    ),
    "deeper": (
        lambda folder: copy("train/good/000.png")(folder, "train/good/day1/000.png"),
        "1 image in neither",
    ),
    "other suffix": (
        lambda folder: (folder / "train/good/000.png").rename(folder / "train/good/000.heic"),
        "1 file is not read, of type .heic",
    ),
    "other suffixes only": (
        lambda folder: copy("test/good/000.png")(folder, "test/scratch/000.gif"),
        "1 file is not read, of type .gif",
    ),
    "hidden folder": (
        lambda folder: copy("test/good/000.png")(folder, "test/.ipynb_checkpoints/000.png"),
        "1 hidden or system folder is not searched",
    ),
    "hidden file": (
        lambda folder: (folder / "train/good/._000.png").write_bytes(b"resource fork"),
        "1 hidden file is not read",
    ),
    "link to no folder": (
        lambda folder: (folder / "test/scratch").symlink_to(folder / "gone"),
        "1 broken link is not read",
    ),
    "link to no category": (
        lambda folder: (folder.parent / "gear").symlink_to(folder / "gone"),
        "1 broken link is not read",
    ),
    "blank good mask": (
        lambda folder: [
            (folder / "ground_truth/good").mkdir(),
            Image.new("L", (24, 16)).save(folder / "ground_truth/good/000.png"),
        ],
        "1 all-zero masks",
    ),
    "inverted": (
        lambda folder: Image.new("L", (24, 16), 255).save(folder / "ground_truth/hole/000_mask.png"),
        "mark every pixel",
    ),
}


@pytest.mark.parametrize("case", REMARKS)
def test_unusual_data_is_a_remark(folder, case):
    change, words = REMARKS[case]
    change(folder)
    report = check_folder(folder)
    assert report.problems == []
    assert len(report.remarks) == 1
    assert words in report.remarks[0]


def test_a_linked_folder_of_images_is_read(folder):
    (folder / "test/gap").symlink_to(folder / "test/crack")
    (folder / "ground_truth/gap").symlink_to(folder / "ground_truth/crack")
    report = check_folder(folder)
    assert report.categories[0].defects == {"crack": 2, "gap": 2, "hole": 2}
    assert (report.problems, report.remarks) == ([], [])


def test_notes_beside_the_folders_of_a_category_are_no_remark(folder):
    for name in ("license.txt", "readme.md", "splits.csv"):
        (folder / name).touch()
    assert check_folder(folder).remarks == []


@pytest.mark.parametrize("leave", ["nothing", "test", "test/good", "test/.hidden"])
def test_missing_test_images_are_one_remark(folder, leave):
    shutil.rmtree(folder / "test")
    shutil.rmtree(folder / "ground_truth")
    (folder / leave).mkdir(parents=True)
    report = check_folder(folder)
    assert report.problems == []
    assert report.remarks[-1] == "part: no test image: metrics are not available, but thresholds and predictions are"
    assert len(report.remarks) == 1 + (leave == "test/.hidden")


@pytest.mark.parametrize("name", ["test/000.png", "test/good/000.gif", "test/good/day1/000.png"])
def test_test_images_that_are_not_found_are_a_problem(folder, name):
    content = (folder / "test/good/000.png").read_bytes()
    shutil.rmtree(folder / "test")
    shutil.rmtree(folder / "ground_truth")
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_bytes(content)
    assert f"no test image (found {name}" in check_folder(folder).problems[0]


@pytest.mark.parametrize("name", ["Good", "GOOD"])
def test_good_in_other_capitals_is_named(folder, name):
    for split in ("train", "test"):
        (folder / split / "good").rename(folder / split / name)
    problems = " ".join(check_folder(folder).problems)
    for split in ("train", "test"):
        assert f"rename {split}/{name}, which differs only in capitals" in problems


@pytest.mark.parametrize("name", ["Test", "TRAIN", "Ground_Truth"])
def test_a_folder_of_the_layout_in_other_capitals_is_a_problem(folder, name):
    (folder / name.lower()).rename(folder / name)
    problems = check_folder(folder).problems
    assert any(f"part/{name} is not read; rename it to {name.lower()}, in lower case" in text for text in problems)


def test_missing_defects_are_a_remark(folder):
    for name in ("test/crack", "test/hole", "ground_truth"):
        shutil.rmtree(folder / name)
    assert check_folder(folder).remarks == ["part: no defect test image: image and pixel metrics are not available"]


def test_jpeg_masks_are_a_remark(folder):
    path = folder / "ground_truth/hole/000_mask.png"
    Image.open(path).save(path.with_suffix(".jpg"))
    path.unlink()
    assert "masks are JPEG" in check_folder(folder).remarks[0]


@pytest.fixture
def linked(folder, tmp_path):
    """A category whose training folder is a link to a folder outside the root."""
    (folder / "train/good").rename(tmp_path / "elsewhere")
    (folder / "train/good").symlink_to(tmp_path / "elsewhere")
    return folder


def test_links_out_of_the_root_are_a_problem(linked):
    report = check_folder(linked, decode=False)
    assert (report.remarks, len(report.problems)) == ([], 1)
    assert f"{linked / 'train/good/000.png'}: lies outside of" in report.problems[0]
    assert "(3 such files)" in report.problems[0]
    assert "--data.follow_links True" in report.problems[0]


def test_one_linked_file_is_a_problem(folder, tmp_path):
    (folder / "train/good/001.png").rename(tmp_path / "elsewhere.png")
    (folder / "train/good/001.png").symlink_to(tmp_path / "elsewhere.png")
    assert "001.png: lies outside of" in check_folder(folder).problems[0]


def test_links_out_of_the_root_are_a_remark_with_follow_links(linked):
    report = check_folder(linked, follow_links=True)
    assert report.problems == []
    assert "3 files outside the root" in report.remarks[0]


def test_a_link_within_the_root_is_no_problem(folder):
    (folder / "train/good/009.png").symlink_to(folder / "train/good/000.png")
    assert check_folder(folder).problems == []


def test_a_name_that_is_not_utf8_is_a_problem(folder):
    image = folder / "train/good/000.png"
    image.rename(os.fsdecode(os.fsencode(image.with_name("caf")) + b"\xe9.png"))
    assert "caf\\xe9.png: its name is not UTF-8" in check_folder(folder).problems[0]


def test_files_with_another_extension_are_named_if_images_are_missing(folder):
    for path in (folder / "train/good").iterdir():
        path.rename(path.with_suffix(".gif"))
    assert (
        "no training image (found train/good/000.gif; supported extensions are .bmp" in check_folder(folder).problems[0]
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_is_a_problem_and_is_not_read(folder):
    os.mkfifo(folder / "test/good/009.png")
    assert "009.png: a pipe or device" in check_folder(folder).problems[0]


def test_a_root_that_is_a_link_is_no_remark(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder.parent)
    assert check_folder(tmp_path / "link" / "part").remarks == []


def test_the_error_lists_ten_problems_and_counts_the_others(folder):
    for number in range(20):
        (folder / f"train/good/1{number:02d}.png").touch()
    with pytest.raises(AnoframeError) as caught:
        check_folder(folder).raise_if_broken()
    assert str(caught.value).count("zero bytes") == 10
    assert "and 10 more" in str(caught.value)


def test_counts_are_compared_with_the_official_split(tmp_path, category):
    category(tmp_path / "bottle")
    report = check_dataset(open_dataset("mvtec", tmp_path), ["bottle"])
    assert "differs, 209/20/63" in report.table()
    assert "not on disk: cable" in report.table()
    assert any("not the official split" in remark for remark in report.remarks)


@pytest.mark.parametrize(("name", "root"), [("mvtec", "mvtec_ad"), ("visa", "visa"), ("folder", "other")])
def test_real_datasets_have_no_problems(shared_data, name, root):
    dataset = open_dataset(name, shared_data(root))
    report = check_dataset(dataset, dataset.categories)
    assert report.problems == []
    assert {category.split_match for category in report.categories} == {"-" if name == "folder" else "match"}


def test_thousands_of_files_are_checked_in_seconds(tmp_path, picture):
    first = picture(tmp_path / "root/part/train/good/0.jpg", size=(64, 64))
    picture(tmp_path / "root/part/test/good/0.jpg", seed=1, size=(64, 64))
    for number in range(1, 2000):
        first.with_name(f"{number}.jpg").hardlink_to(first)
    start = time.process_time()
    report = check_folder(tmp_path / "root/part", decode=False)
    assert report.categories[0].train == 2000
    assert time.process_time() - start < 5


def run_tool(*arguments, cwd):
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_the_tool_reports_problems_and_draws_masks(folder, tmp_path):
    arguments = ("--data.name", "folder", "--data.root", folder.parent)
    valid = run_tool(*arguments, cwd=tmp_path)
    assert valid.returncode == 0, valid.stderr
    assert "0 problems" in valid.stdout
    with Image.open(tmp_path / "data_check.png") as sheet:
        assert len(sheet.getcolors(1 << 20)) > 100

    (folder / "test/crack/000.png").write_bytes(b"")
    broken = run_tool(*arguments, "--picture", tmp_path / "other.png", cwd=tmp_path)
    assert broken.returncode == 1
    assert "000.png: zero bytes" in broken.stdout
    assert (tmp_path / "other.png").is_file()

    unknown = run_tool(*arguments, "--cls_names", "prat", cwd=tmp_path)
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("error: unknown category 'prat'")
    assert "Traceback" not in unknown.stderr


def test_files_that_differ_only_at_their_end_are_no_duplicates(tmp_path):
    start = bytes(100_000)
    contents = {"trained": start + b"a", "copy": start + b"a", "other": start + b"b", "longer": start + b"aa"}
    paths = {name: tmp_path / name for name in contents}
    for name, content in contents.items():
        paths[name].write_bytes(content)
    test_files = [paths["copy"], paths["other"], paths["longer"]]
    assert list(find_duplicates([paths["trained"]], test_files)) == [(paths["trained"], paths["copy"])]
