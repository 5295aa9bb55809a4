"""Which entries of a folder are images, and which are left out and why.

One rule for training, checking and predicting: nothing is left out without a count and the name of the first entry.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from anoframe.data.image_decoding import SUFFIXES, is_image_file

# Folders and files of operating systems, network drives and archives. They hold copies, thumbnails and deleted files.
_SYSTEM_NAMES = frozenset(
    {
        "@eadir",
        "@recycle",
        "@tmp",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "__macosx",
        "__pycache__",
        "desktop.ini",
        "lost+found",
        "system volume information",
        "thumbs.db",
    }
)
_READ = ", ".join(sorted(SUFFIXES))


class Reason(Enum):
    """Why an entry is left out: its noun, and what is not done with it."""

    SUFFIX = "file", "not read, of type {suffixes} (types that are read: " + _READ + ")"
    HIDDEN_FILE = "hidden file", "not read"
    HIDDEN_FOLDER = "hidden or system folder", "not searched"
    OUTPUT = "output folder", "not searched: written by anoframe"
    SUBFOLDER = "subfolder", "not searched"
    LINKED_FOLDER = "linked folder", "not searched, its target contains this folder or is searched already"
    BROKEN_LINK = "broken link", "not read"
    UNREADABLE = "folder", "not read, for lack of permission or a damaged disk"


@dataclass(frozen=True)
class LeftOut:
    """An entry of a folder that is not used."""

    path: Path
    reason: Reason


@dataclass
class Listing:
    """Content of a folder.

    Attributes:
        files: images, sorted by path. Broken links, pipes and, if subfolders are not searched, folders with the name of
            an image are among them: opening them gives an error that says what they are.
        left_out: everything else but small files of the operating system, sorted by path.
    """

    files: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder name is hidden (`._a.png`, `.Trash-0`) or of a system (`Thumbs.db`, `@eaDir`).

    >>> [is_hidden(name) for name in (".ipynb_checkpoints", "__MACOSX", "Thumbs.db", "good", "a.png")]
    [True, True, True, False, False]
    """
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def list_images(
    folder: Path, recursive: bool = False, is_output: Callable[[Path], bool] = lambda folder: False
) -> Listing:
    """List the images in a folder.

    Args:
        folder: a missing folder has no entries.
        recursive: search subfolders too, and folders that links point to. A linked folder is left out if it contains
            `folder`, or was searched already.
        is_output: whether a folder is left out because anoframe wrote it.
    """
    listing = Listing()
    if not folder.is_dir():
        return listing
    root = folder.resolve()
    searched: set[Path] = set()
    linked: list[Path] = []
    _search(folder, listing, recursive, is_output, searched, linked)
    while linked:  # after all real folders, so that a file has its real name if it has two
        link = linked.pop(0)
        target = link.resolve()
        if target in searched or root.is_relative_to(target):
            listing.left_out.append(LeftOut(link, Reason.LINKED_FOLDER))
        else:
            _search(link, listing, recursive, is_output, searched, linked)
    listing.files.sort()
    listing.left_out.sort(key=lambda entry: entry.path)
    return listing


def _search(
    folder: Path,
    listing: Listing,
    recursive: bool,
    is_output: Callable[[Path], bool],
    searched: set[Path],
    linked: list[Path],
) -> None:
    """Add the entries of a folder to the listing, and its linked subfolders to `linked`."""
    folders = [folder]
    while folders:
        parent = folders.pop()
        real = parent.resolve()
        if real in searched:
            continue
        searched.add(real)
        try:
            entries = sorted(parent.iterdir())
        except OSError:
            listing.left_out.append(LeftOut(parent, Reason.UNREADABLE))
            continue
        for path in entries:
            is_folder = _is_folder(path)
            reason = _reason(path, is_folder, recursive, is_output)
            if reason:
                listing.left_out.append(LeftOut(path, reason))
            elif is_folder and recursive:
                (linked if path.is_symlink() else folders).append(path)
            elif is_image_file(path):
                listing.files.append(path)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # no permission for the folder of a link's target
        return False


def _reason(path: Path, is_folder: bool, recursive: bool, is_output: Callable[[Path], bool]) -> Reason | None:
    """Return why an entry is left out; None for images, folders to search, and small files of the system."""
    if is_hidden(path.name):
        if is_folder:
            return Reason.HIDDEN_FOLDER
        return Reason.HIDDEN_FILE if path.suffix.lower() in SUFFIXES else None
    if is_folder:
        if is_output(path):
            return Reason.OUTPUT
        return None if recursive or is_image_file(path) else Reason.SUBFOLDER
    if is_image_file(path):
        return None
    if not path.suffix and path.is_symlink() and not os.path.exists(path):
        return Reason.BROKEN_LINK
    return Reason.SUFFIX


def describe_left_out(entries: Iterable[LeftOut]) -> Iterator[str]:
    """Describe what is left out of one or several listings: one sentence per reason, with the count and first name."""
    by_reason: dict[Reason, list[Path]] = {reason: [] for reason in Reason}
    for entry in entries:
        by_reason[entry.reason].append(entry.path)
    for reason, paths in by_reason.items():
        if paths:
            noun, fate = reason.value
            count = f"{len(paths)} {noun}" + (" is" if len(paths) == 1 else "s are")
            first = ("" if len(paths) == 1 else "the first is ") + escape_name(paths[0])
            yield f"{count} {fate.format(suffixes=_suffixes(paths))}: {first}"


def _suffixes(paths: Iterable[Path], limit: int = 5) -> str:
    """Name the suffixes of files, the most common ones if there are many."""
    names = sorted({escape_name(path.suffix.lower()) or "no suffix" for path in paths})
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def escape_name(path: str | Path) -> str:
    r"""Return a path as text that can be encoded: bytes that are not UTF-8 become `\xe9`.

    >>> escape_name(os.fsdecode(b"caf\xe9.png"))
    'caf\\xe9.png'
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")
