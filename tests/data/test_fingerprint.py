"""Fingerprint of the data: what changes it, and how changes are described."""

from __future__ import annotations

import hashlib
import os
import shutil

import pytest

from anoframe.data.dataset import open_dataset
from anoframe.data.fingerprint import describe_changes, fingerprint_data


@pytest.fixture
def root(tiny_root, tmp_path):
    return shutil.copytree(tiny_root, tmp_path / "data")


def fingerprint(root):
    return fingerprint_data(open_dataset("folder", root), ["felt"])


def differing(before, after):
    return [split for split in ("train", "test") if before.categories["felt"][split] != after.categories["felt"][split]]


def test_the_place_and_the_times_of_the_files_do_not_matter(root, tmp_path):
    before = fingerprint(root)
    moved = root.rename(tmp_path / "moved")
    os.utime(moved / "felt/train/good/000.png", (1, 1))
    assert fingerprint(moved) == before


def test_files_are_hashed_by_their_content_below_the_root(root):
    files = fingerprint(root).files["felt"]
    path = root / "felt/ground_truth/cut/000_mask.png"
    assert files["test"]["felt/ground_truth/cut/000_mask.png"] == hashlib.blake2b(path.read_bytes()).hexdigest()
    assert list(files["train"]) == [f"felt/train/good/{number:03d}.png" for number in range(6)]


def test_images_and_masks_are_counted(root):
    counts = fingerprint(root).categories["felt"]
    assert (counts["train_images"], counts["test_images"], counts["masks"]) == (6, 7, 4)


@pytest.mark.parametrize(
    ("source", "target", "splits"),
    [
        ("train/good/000.png", "train/good/900.png", ["train"]),
        ("test/good/000.png", "test/good/900.png", ["test"]),
        ("test/good/000.png", "test/good/001.png", ["test"]),
        ("ground_truth/cut/000_mask.png", "ground_truth/cut/001_mask.png", ["test"]),
    ],
)
def test_an_added_or_changed_file_changes_its_split(root, source, target, splits):
    before = fingerprint(root)
    shutil.copy(root / "felt" / source, root / "felt" / target)
    assert differing(before, fingerprint(root)) == splits


def test_a_name_that_is_not_utf8_has_a_fingerprint(root):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        shutil.copy(root / "felt/train/good/000.png", root / "felt/train/good" / name)
    except OSError:
        pytest.skip("this file system has only UTF-8 names")
    assert f"felt/train/good/{name}" in fingerprint(root).files["felt"]["train"]


def test_the_masks_of_a_folder_belong_to_the_fingerprint(root):
    from anoframe.data.fingerprint import _files_of
    from anoframe.types import Sample

    folder = root / "felt/ground_truth/cut"
    sample = Sample(root / "felt/test/cut/000.png", "felt", "test", "cut", folder)
    assert _files_of(sample) == [sample.image, folder / "000_mask.png", folder / "001_mask.png"]


def test_changes_are_counted_and_named():
    earlier = {"train": {"a": "1", "b": "2", "c": "3"}}
    current = {"train": {"b": "9", "c": "3", **{f"n{i}": "0" for i in range(5)}}}
    assert describe_changes("felt", ["train"], earlier, current) == (
        "felt, train: 5 added (n0, n1, n2, ...), 1 removed (a), 1 changed (b)"
    )


def test_changes_of_labels_are_named():
    files = {"test": {"a": "1"}}
    assert describe_changes("felt", ["test"], files, files) == "felt, test: the same files with other labels or masks"


def test_without_a_list_of_files_the_split_is_named():
    assert describe_changes("felt", ["test"], {}, {"test": {}}) == "felt: other test images or masks"
