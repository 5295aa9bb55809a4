"""The manifest of a split: its bytes, its hash, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest

from anoframe.data.dataset import open_dataset
from anoframe.data.manifest import make_manifest, read_manifest
from anoframe.data.splits import FEW_SHOT, RAML, RAML_GROUPED, Split
from anoframe.errors import AnoframeError


def open_split(root, split):
    return open_dataset("folder", root, split=split)


@pytest.fixture
def manifest(tiny_root):
    return make_manifest(open_split(tiny_root, Split(RAML, 42)), ["felt", "mesh"], "raml-supervised-80/20")


@pytest.fixture
def written(manifest, tmp_path):
    manifest.write(tmp_path / "split.json")
    return tmp_path / "split.json"


def test_manifest_lists_each_image_with_its_content_and_defect_type(manifest, tiny_root):
    rows = [(part, row) for parts in manifest.files.values() for part, rows in parts.items() for row in rows]
    assert len(rows) == 2 * 13
    for _part, row in rows:
        assert row["sha256"] == hashlib.sha256((tiny_root / row["file"]).read_bytes()).hexdigest()
        assert row["defect"] == row["file"].split("/")[2]
    assert sum(part == "test" for part, _row in rows) == 2 * (1 + 1)


def test_files_are_sorted(manifest):
    for parts in manifest.files.values():
        for rows in parts.values():
            assert [row["file"] for row in rows] == sorted(row["file"] for row in rows)


def test_a_manifest_that_is_read_back_is_equal(manifest, written, tiny_root):
    again = read_manifest(written)
    assert (again, again.hash) == (manifest, manifest.hash)
    again.check_files(tiny_root)


def test_equal_data_elsewhere_give_equal_bytes(written, tiny_root, tmp_path):
    moved = shutil.copytree(tiny_root, tmp_path / "moved")
    copy = make_manifest(open_split(moved, Split(RAML, 42)), ["felt", "mesh"], "raml-supervised-80/20")
    copy.write(tmp_path / "copy.json")
    assert (tmp_path / "copy.json").read_bytes() == written.read_bytes()


def test_hash_is_that_of_the_split_and_the_files_alone(manifest, tiny_root):
    def hash_of(split, categories=("felt", "mesh"), tag=None):
        return make_manifest(open_split(tiny_root, split), categories, tag).hash

    assert hash_of(Split(RAML, 42)) == manifest.hash  # a baseline has no tag
    others = {hash_of(Split(RAML, 43)), hash_of(Split(RAML_GROUPED, 42)), hash_of(Split(FEW_SHOT, 0, 2))}
    others |= {hash_of(Split(RAML, 42), ["felt"]), manifest.hash}
    assert len(others) == 5


@pytest.mark.parametrize("other", ["felt", "mesh"])
def test_same_content_in_two_parts_names_both_files(tiny_root, tmp_path, other):
    root = shutil.copytree(tiny_root, tmp_path / "data")
    dataset = open_split(root, Split(RAML, 42))
    train = next(s for s in dataset.samples(other) if s.split == "train" and s.is_defect)
    test = next(s for s in dataset.samples("felt") if s.split == "test" and s.is_defect)
    shutil.copyfile(train.image, test.image)
    with pytest.raises(AnoframeError, match="has the same content as") as caught:
        make_manifest(dataset, ["felt", "mesh"])
    assert train.image.relative_to(root).as_posix() in str(caught.value)
    assert test.image.relative_to(root).as_posix() in str(caught.value)
    assert "remove one of the two files" in str(caught.value)


def test_changed_files_are_named(manifest, tiny_root, tmp_path):
    root = shutil.copytree(tiny_root, tmp_path / "data")
    (root / "felt/train/good/000.png").write_bytes(b"other")
    with pytest.raises(AnoframeError, match=r"1 files in .* the first is felt/train/good/000.png"):
        manifest.check_files(root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree.pop("split_hash"), "its split_hash cannot be read"),
        (lambda tree: tree.update(format=2), "has format 2, this version reads 1"),
        (lambda tree: tree.update(seed=7), "was changed"),
        (lambda tree: tree["categories"]["felt"]["test"].pop(), "was changed"),
        (lambda tree: tree["categories"]["felt"].pop("test"), "damaged"),
        (lambda tree: tree.update(split="half"), "unknown data.split 'half'"),
        (lambda tree: tree["categories"]["felt"]["test"].extend(tree["categories"]["felt"]["train"]), "same content"),
    ],
)
def test_damaged_manifest_is_refused(written, change, message):
    tree = json.loads(written.read_text(encoding="utf-8"))
    change(tree)
    written.write_text(json.dumps(tree), encoding="utf-8")
    with pytest.raises(AnoframeError, match=message):
        read_manifest(written)
