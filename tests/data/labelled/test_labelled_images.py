"""Labelled images: folders, published classification files, unions, and the exclusion of test images."""

from __future__ import annotations

import gzip
import io
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from anoframe.data.cached_reader import Reader
from anoframe.data.labelled.arrays import CIFAR10, FASHION_MNIST, STL10
from anoframe.data.labelled.base import JoinedImages, manifest_hash
from anoframe.data.labelled.sources import open_source, open_training_set
from anoframe.data.preprocessing import Preprocessing
from anoframe.errors import AnoframeError

RNG = np.random.default_rng(0)


def reader(side=8):
    return Reader(Preprocessing(side, side, keep_aspect=False))


def random_image(side=8):
    return RNG.integers(0, 256, (side, side, 3), dtype=np.uint8)


def save(path, image=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random_image() if image is None else image).save(path)


@pytest.fixture
def classes_root(tmp_path):
    for name in ("cup", "plate"):
        for i in range(2):
            save(tmp_path / "classes" / name / "deep" / f"{i}.png")
    return tmp_path / "classes"


def test_a_folder_is_searched_with_its_subfolders(classes_root):
    images = open_source(f"images:{classes_root}", "train", reader())
    assert len(images) == 4
    assert images.classes == ("classes",)
    assert images.pixels(0).shape == (3, 8, 8)


def test_a_class_is_the_name_of_its_folder(classes_root):
    images = open_source(f"classes:{classes_root}", "train", reader())
    assert [sample.category for sample in images.samples] == ["cup", "cup", "plate", "plate"]


def test_class_folders_may_lie_in_train_and_val(classes_root, tmp_path):
    shutil.copytree(classes_root, tmp_path / "split" / "train")
    save(tmp_path / "split" / "val" / "cup" / "9.png")
    source = f"classes:{tmp_path / 'split'}"
    assert len(open_source(source, "train", reader())) == 4
    assert [s.image.name for s in open_source(source, "test", reader()).samples] == ["9.png"]


def test_a_dataset_gives_its_normal_training_images(tiny_root):
    train, test = (open_source(f"folder:{tiny_root}", split, reader()) for split in ("train", "test"))
    assert (len(train), len(test)) == (12, 14)
    assert train.classes == ("felt", "mesh")
    assert not any(sample.is_defect for sample in train.samples)


# ------------------------------------------------------------------------------------------------ published files


@pytest.fixture
def arrays():
    return RNG.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8), np.arange(10, dtype=np.uint8)


def check(source, images, labels, names, split="train", side=32):
    opened = open_source(source, split, reader(side))
    assert len(opened) == len(images)
    assert [sample.category for sample in opened.samples] == [names[label] for label in labels]
    for row in range(len(images)):
        assert torch.equal(opened.pixels(row), torch.from_numpy(images[row]).permute(2, 0, 1))


def test_npz(arrays, tmp_path):
    images, labels = arrays
    names = [f"kind{i}" for i in range(10)]
    np.savez(
        tmp_path / "a.npz", train_x=images[:6], train_y=labels[:6], test_x=images[6:], test_y=labels[6:], classes=names
    )
    check(f"npz:{tmp_path / 'a.npz'}", images[:6], labels[:6], names)
    check(f"npz:{tmp_path / 'a.npz'}", images[6:], labels[6:], names, "test")


def test_npz_with_objects_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", train_x=np.array([{}], dtype=object), train_y=[0])
    with pytest.raises(AnoframeError, match="no archive"):
        open_source(f"npz:{tmp_path / 'a.npz'}", "train", reader())


@pytest.mark.parametrize("kind", ["binary", "python"])
def test_cifar10(kind, arrays, tmp_path):
    images, labels = arrays
    rows = images.transpose(0, 3, 1, 2).reshape(10, -1)
    folder = tmp_path / ("cifar-10-batches-bin" if kind == "binary" else "cifar-10-batches-py")
    folder.mkdir()
    for number in range(1, 7):
        part = slice(2 * (number - 1), 2 * number) if number < 6 else slice(0, 3)
        stem = f"data_batch_{number}" if number < 6 else "test_batch"
        if kind == "binary":
            np.concatenate([labels[part, None], rows[part]], axis=1).tofile(folder / f"{stem}.bin")
        else:
            batch = {b"data": rows[part], b"labels": labels[part].tolist(), b"batch_label": b"x"}
            (folder / stem).write_bytes(pickle.dumps(batch, protocol=2))
    check(f"cifar10:{tmp_path}", images, labels, CIFAR10)
    check(f"cifar10:{tmp_path}", images[:3], labels[:3], CIFAR10, "test")


class Harmful:
    def __reduce__(self):
        return print, ("this code must not run",)


def test_a_python_batch_cannot_run_code(tmp_path, capsys):
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (tmp_path / name).write_bytes(pickle.dumps({b"data": Harmful()}))
    with pytest.raises(AnoframeError, match=r"contains .*print"):
        open_source(f"cifar10:{tmp_path}", "train", reader())
    assert "must not run" not in capsys.readouterr().out


def test_stl10_stores_each_channel_by_columns(tmp_path):
    images = RNG.integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    images.transpose(0, 3, 2, 1).tofile(tmp_path / "train_X.bin")
    np.array([1, 10, 4], np.uint8).tofile(tmp_path / "train_y.bin")
    images.transpose(0, 3, 2, 1).tofile(tmp_path / "unlabeled_X.bin")
    check(f"stl10:{tmp_path}", images, [0, 9, 3], STL10, side=96)
    check(f"stl10_unlabeled:{tmp_path}", images, [0, 0, 0], ["unlabeled"], side=96)


@pytest.mark.parametrize("compressed", [True, False])
def test_fashion_mnist(compressed, tmp_path):
    grey, labels = RNG.integers(0, 256, (4, 28, 28), dtype=np.uint8), np.array([0, 9, 2, 2], np.uint8)

    def idx(array):
        sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
        return b"\0\0\x08" + bytes([array.ndim]) + sizes + array.tobytes()

    for name, array in (("train-images-idx3-ubyte", grey), ("train-labels-idx1-ubyte", labels)):
        if compressed:
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (tmp_path / name).write_bytes(idx(array))
    check(f"fashion_mnist:{tmp_path}", np.repeat(grey[..., None], 3, 3), labels, FASHION_MNIST, side=28)


def test_damaged_files_are_named(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + bytes(12) + b"x")
    with pytest.raises(AnoframeError, match="no idx file of bytes"):
        open_source(f"fashion_mnist:{tmp_path}", "train", reader())
    (tmp_path / "train_X.bin").write_bytes(b"123")
    with pytest.raises(AnoframeError, match=r"train_X\.bin is damaged"):
        open_source(f"stl10:{tmp_path}", "train", reader())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("photos", "written KIND:PATH"),
        ("imagse:/tmp", "did you mean 'images'"),
        ("images:/no/such/folder", "does not exist"),
        ("cifar10:/tmp", "has not all of"),
    ],
)
def test_wrong_sources_are_explained(source, message):
    with pytest.raises(AnoframeError, match=message):
        open_source(source, "train", reader())


# ------------------------------------------------------------------------------------------------ unions and exclusion


def test_a_union_has_the_images_of_its_parts_in_order(classes_root, tiny_root):
    sources = (f"classes:{classes_root}", f"folder:{tiny_root}")
    parts = [open_source(source, "train", reader()) for source in sources]
    joined = JoinedImages(parts)
    assert len(joined) == 4 + 12
    places = [(source, own) for source in parts for own in range(len(source))]
    for row, (source, own) in enumerate(places):
        assert torch.equal(joined.pixels(row), source.pixels(own))
        assert joined.sample(row) == source.sample(own)
    assert joined.hashes() == [content for part in parts for content in part.hashes()]


def test_test_images_are_left_out_by_their_content(tiny_root, tmp_path):
    photos = tmp_path / "photos"
    save(photos / "own.png")
    for number in range(2):
        shutil.copy(tiny_root / "felt/test/cut" / f"{number:03d}.png", photos / f"renamed_{number}.png")
    shutil.copy(tiny_root / "felt/train/good/000.png", photos / "train.png")
    data = open_training_set([f"images:{photos}"], [f"folder:{tiny_root}"], reader())
    assert sorted(sample.image.name for sample in data.images.samples) == ["own.png", "train.png"]
    assert data.excluded == {f"folder:{tiny_root}": 2}
    assert data.remarks() == [f"2 training images are left out: also in the test split of folder:{tiny_root}"]
    assert len(data.hashes) == len(data.images) == 2


def test_the_own_test_split_is_always_left_out(write_category, tmp_path):
    write_category(tmp_path / "felt", 7)
    shutil.copy(tmp_path / "felt/test/good/000.png", tmp_path / "felt/train/good/copy.png")
    data = open_training_set([f"folder:{tmp_path}"], [], reader())
    assert len(data.images) == 6
    assert sum(data.excluded.values()) == 1


def test_array_images_are_compared_by_their_pixels(arrays, tmp_path):
    images, labels = arrays
    np.savez(tmp_path / "a.npz", train_x=images[:6], train_y=labels[:6], test_x=images[4:], test_y=labels[4:])
    data = open_training_set([f"npz:{tmp_path / 'a.npz'}"], [], reader(32))
    assert len(data.images) == 4


def test_nothing_left_is_an_error(tiny_root):
    with pytest.raises(AnoframeError, match="no image left"):
        open_training_set([f"images:{tiny_root / 'felt/test'}"], [f"folder:{tiny_root}"], reader())


def test_manifest_depends_on_contents_and_classes_only(classes_root, tmp_path):
    first = open_source(f"classes:{classes_root}", "train", reader())
    moved = tmp_path / "moved"
    shutil.copytree(classes_root, moved)
    (moved / "cup" / "deep" / "0.png").rename(moved / "cup" / "renamed.png")
    second = open_source(f"classes:{moved}", "train", reader())
    assert manifest_hash(first, first.hashes()) == manifest_hash(second, second.hashes())
    (moved / "cup").rename(moved / "mug")
    third = open_source(f"classes:{moved}", "train", reader())
    assert manifest_hash(third, third.hashes()) != manifest_hash(first, first.hashes())


def test_images_are_resized_to_the_preprocessing(arrays):
    from pathlib import Path

    from anoframe.data.labelled.base import ImageArrays

    images, labels = arrays
    resized = ImageArrays(images, ["a"] * len(labels), Path("x"), "train", reader(16))
    assert resized.pixels(0).shape == (3, 16, 16)
    assert io.BytesIO(resized.content(0)).read(4) == b"(32,"
