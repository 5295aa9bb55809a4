"""Recognising which known dataset a folder contains, for error messages about a wrong `--data.name` or root."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from anoframe.registry import DATASETS

if TYPE_CHECKING:
    from anoframe.data.dataset import Dataset

_BY_CATEGORY_NAME = ("mvtec", "mpdd")  # recognised by names that a user's own categories may have as well
_GENERIC = "folder"  # its layout is the common one, so that it is recognised only if no other is


def recognise_layout(root: Path) -> type[Dataset] | None:
    """Return the dataset class whose layout a folder has, None if it has no known one."""
    for name in sorted(DATASETS.names(), key=lambda name: (name == _GENERIC, name)):
        dataset: type[Dataset] = DATASETS.load(name)
        if dataset.title and dataset.has_layout(root):
            return dataset
    return None


def layout_hint(root: Path, name: str, specific: bool = False) -> str:
    """Name the dataset in a folder, in one of its subfolders, or of whose categories the folder is one.

    Args:
        root: an existing folder.
        name: of the dataset that was given.
        specific: recognise published datasets only, not the layout that a user's own images share with them.

    Returns:
        str: "this looks like MVTec LOCO: --data.name loco"; empty if the layout is that of `name`, or not known.
    """
    try:
        found, place = _find_layout(root)
    except OSError:  # a folder that cannot be listed
        return ""
    if found is None or found.name == name or (specific and found.name == _GENERIC):
        return ""
    if name == _GENERIC and found.name in _BY_CATEGORY_NAME:
        return ""
    other_root = "" if place == root else f" --data.root {place}"
    return f"this looks like {found.title}: --data.name {found.name}{other_root}"


def _find_layout(root: Path) -> tuple[type[Dataset] | None, Path]:
    """Return the dataset class and the folder with its layout: the root, its parent or one of its subfolders."""
    found = recognise_layout(root)
    if found is None or found.name == _GENERIC:
        parent = root.resolve().parent
        above = recognise_layout(parent)
        if above and root.resolve().name in above.official_counts:
            return above, parent
    if found is None:
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            below = recognise_layout(folder)
            if below and below.name != _GENERIC:
                return below, folder
    return found, root
