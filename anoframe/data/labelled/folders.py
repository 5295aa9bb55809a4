"""Folders of images: all images below a folder, or one folder per class."""

from __future__ import annotations

from pathlib import Path

from anoframe.data.cached_reader import Reader
from anoframe.data.labelled.base import ImageFiles
from anoframe.data.listing import list_images
from anoframe.data.mvtec_layout import subfolders
from anoframe.errors import AnoframeError
from anoframe.types import Sample


def open_images(root: Path, split: str, reader: Reader) -> ImageFiles:
    """Open all images below a folder; their class is the name of the folder. There is no split."""
    return ImageFiles([Sample(path, root.name, split) for path in list_images(root, recursive=True).files], reader)


def open_class_folders(root: Path, split: str, reader: Reader) -> ImageFiles:
    """Open one folder per class, each searched with its subfolders.

    If the root has the folders `train` and `test` (or `val`), the classes are those of the folder of the split.

    Raises:
        AnoframeError: no folder with images.
    """
    parent = _split_folder(root, split)
    samples = [
        Sample(path, folder.name, split)
        for folder in subfolders(parent)
        for path in list_images(folder, recursive=True).files
    ]
    if not samples:
        raise AnoframeError(
            f"{parent} has no class folders with images: it takes one folder per class, or use the kind images for a "
            "folder without classes"
        )
    return ImageFiles(samples, reader)


def _split_folder(root: Path, split: str) -> Path:
    if not (root / "train").is_dir():
        return root
    for name in (split, "val") if split == "test" else (split,):
        if (root / name).is_dir():
            return root / name
    raise AnoframeError(f"{root} has the folder train and no folder {split}: add it, or name the folder of the classes")
