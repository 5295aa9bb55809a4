"""The demo data: written completely or not at all, reproducible, with exact masks."""

from __future__ import annotations

import hashlib
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from skimage import data

from anoframe.data import demo as module
from anoframe.data.dataset import open_dataset
from anoframe.data.demo import BAND, MARKER, TILE, Demo, make_demo
from anoframe.data.demo_defects import DEFECTS
from anoframe.data.validation import check_dataset
from anoframe.errors import AnoframeError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "demo"
    make_demo(root)
    return root


@pytest.fixture
def one_category(monkeypatch):
    """Reduce the data to one category, for tests that write it several times."""
    monkeypatch.setattr(module, "FOREIGN", {"brick": "brick"})


def fingerprint(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def pixels(path):
    return np.asarray(Image.open(path))


def all_windows(area):
    """Return every TILE x TILE window of an area, as a view."""
    return np.lib.stride_tricks.sliding_window_view(area, (TILE, TILE))


def contains(area, tile):
    """Return whether the tile is cut from the area. For speed, only windows with an equal first row are compared."""
    windows = all_windows(area)
    positions = np.argwhere((windows[:, :, 0, ::16] == tile[0, ::16]).all(axis=2))
    return any(np.array_equal(windows[top, left], tile) for top, left in positions)


def test_categories_and_defect_types_have_the_expected_counts(root):
    dataset = open_dataset("demo", root)
    assert dataset.categories == ("brick", "grass", "gravel")
    for category in dataset.categories:
        counts = Counter((s.split, s.defect) for s in dataset.samples(category))
        assert counts.pop(("train", "good")) == 72
        assert counts.pop(("test", "good")) == 10
        assert counts == {("test", defect): 6 for defect in DEFECTS}


def test_dataset_check_reports_no_problem(root):
    dataset = Demo(root)
    assert check_dataset(dataset, dataset.categories, decode=True).problems == []


def test_train_and_test_come_from_disjoint_regions(root):
    for sample in Demo(root).samples("gravel"):
        photograph = data.gravel()
        tile = pixels(sample.image)
        if sample.split == "train":
            sides = photograph[:, : BAND.start], photograph[:, BAND.stop :]
            assert any(contains(side, tile) or contains(side, tile[:, ::-1]) for side in sides)
        elif not sample.is_defect:
            assert contains(photograph[:, BAND], tile)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_changes_the_pixels_of_its_mask_and_no_others(defect):
    tile, foreign = data.brick()[:TILE, :TILE], data.grass()[:TILE, :TILE]
    for seed in range(20):
        drawn, mask = DEFECTS[defect](tile, foreign, np.random.default_rng(seed))
        assert (drawn.dtype, mask.dtype, drawn.shape, mask.shape) == (np.uint8, bool, tile.shape, tile.shape)
        assert np.array_equal(drawn[~mask], tile[~mask])
        assert 0.002 < mask.mean() < 0.3
        assert (drawn != tile)[mask].mean() > 0.5


def test_files_are_equal_every_time(root, tmp_path):
    make_demo(tmp_path / "again")
    assert fingerprint(tmp_path / "again") == fingerprint(root)


def test_complete_data_is_not_written_again(root, monkeypatch):
    monkeypatch.setattr(module, "_write", lambda folder: pytest.fail("written again"))
    make_demo(root)


@pytest.mark.usefixtures("one_category")
def test_data_is_written_again_if_a_file_is_missing_or_the_version_is_old(tmp_path):
    make_demo(tmp_path / "demo")
    complete = fingerprint(tmp_path / "demo")
    (tmp_path / "demo/brick/train/good/003.png").unlink()
    make_demo(tmp_path / "demo")
    assert fingerprint(tmp_path / "demo") == complete
    (tmp_path / "demo" / MARKER).write_text(json.dumps({"version": 0, "files": 1}))
    make_demo(tmp_path / "demo")
    assert fingerprint(tmp_path / "demo") == complete


def test_interrupted_writing_leaves_no_files(tmp_path, monkeypatch):
    def write_half(folder):
        (folder / "brick").mkdir(parents=True)
        raise OSError("no space left")

    monkeypatch.setattr(module, "_write", write_half)
    with pytest.raises(AnoframeError, match="no space left"):
        make_demo(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_not_changed(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/photo.png").write_bytes(b"precious")
    with pytest.raises(AnoframeError, match="not the demo"):
        make_demo(tmp_path / "mine")
    assert (tmp_path / "mine/photo.png").read_bytes() == b"precious"


@pytest.mark.usefixtures("one_category")
def test_another_process_may_write_the_data_first(tmp_path, monkeypatch):
    write = module._write

    def write_after_other_process(folder):
        write(folder)
        monkeypatch.setattr(module, "_write", write)
        make_demo(tmp_path / "demo")

    monkeypatch.setattr(module, "_write", write_after_other_process)
    make_demo(tmp_path / "demo")
    assert module._is_complete(tmp_path / "demo")
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
