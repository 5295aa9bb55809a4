"""Published classification sets in their original files, and NumPy archives.

Nothing is downloaded, and no file can run code: the Python batches of CIFAR-10 are read by an unpickler that builds
arrays and plain values only.
"""

from __future__ import annotations

import gzip
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anoframe.data.cached_reader import Reader
from anoframe.data.labelled.base import ImageArrays
from anoframe.errors import AnoframeError

Arrays = NDArray[np.uint8]

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
STL10 = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
FASHION_MNIST = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def open_npz(root: Path, split: str, reader: Reader) -> ImageArrays:
    """Open a NumPy archive with `train_x` uint8 `[N, H, W, 3]`, `train_y`, `test_x`, `test_y` and `classes`.

    Raises:
        AnoframeError: no archive, a missing array, or an array of objects, which is not loaded.
    """
    try:
        with np.load(root, allow_pickle=False) as file:
            images, labels = file[f"{split}_x"], file[f"{split}_y"]
            names = [str(name) for name in file["classes"]] if "classes" in file else None
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise AnoframeError(
            f"{root} is no archive with {split}_x, {split}_y and classes ({error}): write it with numpy.savez"
        ) from error
    return ImageArrays(images, _names(labels, names, root), root, split, reader)


def open_cifar10(root: Path, split: str, reader: Reader) -> ImageArrays:
    """Open CIFAR-10 in its binary or its Python batches, in `root` or the folder of its archive below it."""
    folders = [
        folder for name in ("", "cifar-10-batches-bin", "cifar-10-batches-py") if (folder := root / name).is_dir()
    ]
    stems = [f"data_batch_{i}" for i in range(1, 6)] if split == "train" else ["test_batch"]
    for folder in folders:
        if all((folder / f"{stem}.bin").is_file() for stem in stems):
            batches = [_cifar_binary(folder / f"{stem}.bin") for stem in stems]
        elif all((folder / stem).is_file() for stem in stems):
            batches = [_cifar_python(folder / stem) for stem in stems]
        else:
            continue
        pixels, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
        images = np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        return ImageArrays(images, _names(labels, CIFAR10, root), root, split, reader)
    raise AnoframeError(f"{root} has not all of {', '.join(stems)} of CIFAR-10, with or without .bin")


def open_cifar100(root: Path, split: str, reader: Reader) -> ImageArrays:
    """Open CIFAR-100 with its 100 fine labels, in its binary or its Python files, in `root` or a folder below it."""
    for folder in (root, root / "cifar-100-binary", root / "cifar-100-python"):
        if (folder / f"{split}.bin").is_file():
            pixels, labels = _cifar_binary(folder / f"{split}.bin", label_bytes=2)
        elif (folder / split).is_file():
            pixels, labels = _cifar_python(folder / split, b"fine_labels")
        else:
            continue
        images = np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        return ImageArrays(images, _names(labels, _fine_names(folder, root), root), root, split, reader)
    raise AnoframeError(f"{root} has no {split} or {split}.bin of CIFAR-100: name the folder of its archive")


def open_stl10(root: Path, split: str, reader: Reader) -> ImageArrays:
    """Open the binary files of STL-10; the split `unlabeled` has a single class."""
    folder = root / "stl10_binary" if (root / "stl10_binary").is_dir() else root
    data = _read(folder / f"{split}_X.bin")
    if data.size % (3 * 96 * 96):
        raise AnoframeError(f"{folder / f'{split}_X.bin'} is damaged: its size is no number of 96 x 96 images")
    images = np.ascontiguousarray(data.reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1))  # each channel by columns
    if split == "unlabeled":
        return ImageArrays(images, ["unlabeled"] * len(images), root, split, reader)
    labels = _read(folder / f"{split}_y.bin").astype(np.int64) - 1
    return ImageArrays(images, _names(labels, STL10, root), root, split, reader)


def open_stl10_unlabeled(root: Path, split: str, reader: Reader) -> ImageArrays:
    """Open the 100,000 unlabelled images of STL-10, whatever the split."""
    return open_stl10(root, "unlabeled", reader)


def open_fashion_mnist(root: Path, split: str, reader: Reader) -> ImageArrays:
    """Open the idx files of Fashion-MNIST or MNIST, with or without `.gz`; grey values in all three channels."""
    prefix = "train" if split == "train" else "t10k"
    images, labels = (_read_idx(root, f"{prefix}-{name}-ubyte") for name in ("images-idx3", "labels-idx1"))
    grey = np.repeat(images[..., None], 3, axis=3)
    return ImageArrays(grey, _names(labels, FASHION_MNIST, root), root, split, reader)


def _names(labels: Any, names: Sequence[str] | None, source: Path) -> list[str]:
    """Return the class name of each label, which is a number from 0 on."""
    numbers = np.asarray(labels).astype(np.int64).tolist()
    names = names or [f"class{number:03d}" for number in range(max(numbers, default=0) + 1)]
    if numbers and not 0 <= min(numbers) <= max(numbers) < len(names):
        raise AnoframeError(f"{source}: labels must be from 0 to {len(names) - 1}, got up to {max(numbers)}")
    return [names[number] for number in numbers]


def _read(path: Path) -> Arrays:
    try:
        return np.fromfile(path, np.uint8)
    except OSError as error:
        raise AnoframeError(f"{path} cannot be read: {error.strerror}; check the folder of the data") from error


def _read_idx(root: Path, name: str) -> Arrays:
    for path in (root / name, root / f"{name}.gz"):
        if path.is_file():
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            dims = data[3] if len(data) > 4 and data[:3] == b"\0\0\x08" else 0
            shape = tuple(int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(dims))
            values = np.frombuffer(data, np.uint8, offset=4 + 4 * dims)
            if not dims or values.size != int(np.prod(shape)):
                raise AnoframeError(f"{path} is damaged: it is no idx file of bytes")
            return values.reshape(shape)
    raise AnoframeError(f"{root} has no {name} or {name}.gz: name the folder of the idx files")


def _fine_names(folder: Path, root: Path) -> list[str]:
    """Read the names of the fine classes of CIFAR-100 from the file that lies beside its images."""
    text, tree = folder / "fine_label_names.txt", folder / "meta"
    try:
        if text.is_file():
            return text.read_text(encoding="utf-8").split()
        with tree.open("rb") as file:
            return [name.decode() for name in _ArrayUnpickler(file, encoding="bytes").load()[b"fine_label_names"]]
    except (OSError, pickle.UnpicklingError, KeyError, TypeError, ValueError, EOFError, AttributeError) as error:
        raise AnoframeError(
            f"{root} has no readable {text.name} (binary files) or {tree.name} (Python files) of CIFAR-100 ({error}): "
            "copy it from the archive"
        ) from error


def _cifar_binary(path: Path, label_bytes: int = 1) -> tuple[Arrays, Arrays]:
    """Read a binary file; of several label bytes before the pixels the last one counts."""
    data, length = _read(path), 3072 + label_bytes
    if data.size % length:
        raise AnoframeError(f"{path} is damaged: its size is no multiple of {length} bytes")
    rows = data.reshape(-1, length)
    return rows[:, label_bytes:], rows[:, label_bytes - 1]


def _cifar_python(path: Path, label_key: bytes = b"labels") -> tuple[Arrays, Arrays]:
    try:
        with path.open("rb") as file:
            tree = _ArrayUnpickler(file, encoding="bytes").load()
        return np.asarray(tree[b"data"], np.uint8).reshape(-1, 3072), np.asarray(tree[label_key], np.uint8)
    except (pickle.UnpicklingError, KeyError, TypeError, ValueError, EOFError, AttributeError) as error:
        raise AnoframeError(f"{path} is damaged, or no batch of CIFAR-10 ({error}); download it again") from error


class _ArrayUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and plain values, and refuses everything else, so that a file can run no code."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core", "numpy._core")
        if (module, name) in {("numpy._core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}:
            return super().find_class(module if np.__version__ >= "2" else module.replace("_core", "core"), name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it contains {module}.{name}")
