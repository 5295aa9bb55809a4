"""CIFAR-100 in both of its published formats: fine labels, names, and damaged files."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from anoframe.data.cached_reader import Reader
from anoframe.data.labelled.sources import open_source
from anoframe.data.preprocessing import Preprocessing
from anoframe.errors import AnoframeError

READER = Reader(Preprocessing(32, 32, keep_aspect=False))
NAMES = ["apple", "bear", "cloud"]


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (4, 3072), dtype=np.uint8), np.array([2, 0, 1, 2], np.uint8)


@pytest.fixture
def binary(tmp_path, images):
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    pixels, fine = images
    coarse = np.full((4, 1), 9, np.uint8)
    rows = np.concatenate([coarse, fine[:, None], pixels], 1)
    for split in ("train", "test"):
        rows.tofile(folder / f"{split}.bin")
    (folder / "fine_label_names.txt").write_text("\n".join(NAMES) + "\n")
    return tmp_path


@pytest.fixture
def python(tmp_path, images):
    folder = tmp_path / "py" / "cifar-100-python"
    folder.mkdir(parents=True)
    pixels, fine = images
    tree = {b"data": pixels, b"fine_labels": fine.tolist(), b"coarse_labels": [9] * 4}
    for split in ("train", "test"):
        (folder / split).write_bytes(pickle.dumps(tree))
    (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": [name.encode() for name in NAMES]}))
    return tmp_path / "py"


def test_both_formats_give_the_same_images_and_fine_labels(binary, python):
    first, second = (open_source(f"cifar100:{root}", "train", READER) for root in (binary, python))
    assert [sample.category for sample in first.samples] == ["cloud", "apple", "bear", "cloud"]
    assert [sample.category for sample in second.samples] == [sample.category for sample in first.samples]
    assert all(torch.equal(first.pixels(row), second.pixels(row)) for row in range(4))


def test_a_pixel_is_where_the_file_has_it(binary, images):
    row = open_source(f"cifar100:{binary}", "test", READER).pixels(1)
    assert torch.equal(row, torch.from_numpy(images[0][1].reshape(3, 32, 32)))


def test_damaged_and_missing_files_are_errors(binary, tmp_path):
    (binary / "cifar-100-binary" / "train.bin").write_bytes(b"123")
    with pytest.raises(AnoframeError, match="3074"):
        open_source(f"cifar100:{binary}", "train", READER)
    (binary / "cifar-100-binary" / "fine_label_names.txt").unlink()
    with pytest.raises(AnoframeError, match=r"fine_label_names\.txt"):
        open_source(f"cifar100:{binary}", "test", READER)
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnoframeError, match="CIFAR-100"):
        open_source(f"cifar100:{tmp_path / 'empty'}", "train", READER)


def test_a_pickle_that_runs_code_is_refused(python):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    (python / "cifar-100-python" / "meta").write_bytes(pickle.dumps({b"fine_label_names": Evil()}))
    with pytest.raises(AnoframeError, match="builtins"):
        open_source(f"cifar100:{python}", "train", READER)
