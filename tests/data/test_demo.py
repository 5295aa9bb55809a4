"""The demo data: made whole or not at all, the same each time, and honest about its masks."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from skimage import data

from anoframe.data import demo as module
from anoframe.data.dataset import open_dataset
from anoframe.data.defects import DEFECTS
from anoframe.data.demo import BAND, MARKER, TILE, Demo, make_demo
from anoframe.data.validation import check
from anoframe.errors import AnoframeError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "demo"
    make_demo(root)
    return root


def fingerprint(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def pixels(path):
    return np.asarray(Image.open(path))


def windows_of(area):
    """Every TILE x TILE window of an area, as a view."""
    return np.lib.stride_tricks.sliding_window_view(area, (TILE, TILE))


def holds(area, tile):
    """Whether the tile is cut from the area. A first row that fits is looked for before all else is compared."""
    windows = windows_of(area)
    places = np.argwhere((windows[:, :, 0, ::16] == tile[0, ::16]).all(axis=2))
    return any(np.array_equal(windows[top, left], tile) for top, left in places)


def test_contents(root):
    dataset = open_dataset("demo", root)
    assert dataset.categories == ("brick", "grass", "gravel")
    for category in dataset.categories:
        kinds = Counter((s.split, s.defect) for s in dataset.samples(category))
        assert kinds.pop(("train", "good")) == 72
        assert kinds.pop(("test", "good")) == 10
        assert kinds == {("test", kind): 6 for kind in DEFECTS}


def test_the_check_finds_no_problem(root):
    dataset = Demo(root)
    assert check(dataset, dataset.categories, decode=True).problems == []


def test_train_and_test_come_from_disjoint_regions(root):
    for sample in Demo(root).samples("gravel"):
        photograph = data.gravel()
        tile = pixels(sample.image)
        if sample.split == "train":
            sides = photograph[:, : BAND.start], photograph[:, BAND.stop :]
            assert any(holds(side, tile) or holds(side, tile[:, ::-1]) for side in sides)
        elif not sample.is_defect:
            assert holds(photograph[:, BAND], tile)


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_defect_changes_what_its_mask_marks_and_nothing_else(kind):
    tile, foreign = data.brick()[:TILE, :TILE], data.grass()[:TILE, :TILE]
    for seed in range(20):
        drawn, mask = DEFECTS[kind](tile, foreign, np.random.default_rng(seed))
        assert (drawn.dtype, mask.dtype, drawn.shape, mask.shape) == (np.uint8, bool, tile.shape, tile.shape)
        assert np.array_equal(drawn[~mask], tile[~mask])
        assert 0.002 < mask.mean() < 0.3
        assert (drawn != tile)[mask].mean() > 0.5


def test_the_same_bytes_each_time(root, tmp_path):
    make_demo(tmp_path / "again")
    assert fingerprint(tmp_path / "again") == fingerprint(root)


def test_it_is_made_once(root, monkeypatch):
    monkeypatch.setattr(module, "_write", lambda folder: pytest.fail("made again"))
    make_demo(root)


def test_it_is_made_anew_when_a_file_is_gone_or_the_version_is_old(root, tmp_path):
    shutil.copytree(root, tmp_path / "demo")
    whole = fingerprint(root)
    (tmp_path / "demo/brick/train/good/003.png").unlink()
    make_demo(tmp_path / "demo")
    assert fingerprint(tmp_path / "demo") == whole
    (tmp_path / "demo" / MARKER).write_text(json.dumps({"version": 0, "files": 1}))
    make_demo(tmp_path / "demo")
    assert fingerprint(tmp_path / "demo") == whole


def test_a_failure_half_way_leaves_nothing(tmp_path, monkeypatch):
    def write_half(folder):
        (folder / "brick").mkdir(parents=True)
        raise OSError("no space left")

    monkeypatch.setattr(module, "_write", write_half)
    with pytest.raises(AnoframeError, match="no space left"):
        make_demo(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_the_demo_is_not_touched(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/photo.png").write_bytes(b"precious")
    with pytest.raises(AnoframeError, match="not the demo"):
        make_demo(tmp_path / "mine")
    assert (tmp_path / "mine/photo.png").read_bytes() == b"precious"


def test_another_process_may_be_quicker(tmp_path, monkeypatch):
    write = module._write

    def overtaken(folder):
        write(folder)
        monkeypatch.setattr(module, "_write", write)
        make_demo(tmp_path / "demo")

    monkeypatch.setattr(module, "_write", overtaken)
    make_demo(tmp_path / "demo")
    assert module._is_whole(tmp_path / "demo")
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
