"""Images of a prediction: files, folders, or several of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from anoframe.data.image_decoding import is_image_file
from anoframe.data.listing import LeftOut, Listing, Reason, describe_left_out, escape_name, is_hidden, list_images
from anoframe.errors import AnoframeError
from anoframe.report.predictions_page import THUMBNAILS

SCORES = "scores.jsonl"
OUTPUTS: Mapping[str, Sequence[str]] = {  # file -> folders that a prediction or a run writes next to it
    SCORES: ("maps", "overlays", THUMBNAILS),
    "run.json": ("pictures", "checkpoint"),
}


def list_inputs(sources: Sequence[str | Path]) -> tuple[Path, Listing]:
    """Return the folder that names are relative to, and the images of one or several files and folders.

    Raises:
        AnoframeError: there is no image.
    """
    paths = list(dict.fromkeys(Path(source) for source in sources))
    if not any(os.path.exists(path) for path in paths):  # unlike Path.exists, False for a name that is too long
        shown = escape_name(paths[0]) if paths else "input"
        raise AnoframeError(f"there is no {shown}: --input is images, or folders of images")
    if len(paths) > 1:
        root, listing = _common_folder(paths)
    elif paths[0].is_dir():
        root, listing = paths[0], list_images(paths[0], recursive=True, is_output=_is_output)
    else:  # whatever its suffix
        root, listing = paths[0].parent, Listing([paths[0]])
    if not listing.files:
        left_out = "".join(f". {sentence}" for sentence in describe_left_out(listing.left_out))
        raise AnoframeError(
            f"no image in {escape_name(paths[0])}: give an image, or a folder of PNG, JPEG, BMP, TIFF or WebP "
            f"files{left_out}"
        )
    return root, listing


def _common_folder(paths: Sequence[Path]) -> tuple[Path, Listing]:
    """List files and folders, as a shell names them for `parts/*`, like the content of one folder."""
    if len({path.parent for path in paths}) > 1:
        paths = [Path(os.path.abspath(path)) for path in paths]
    root = Path(os.path.commonpath([path.parent for path in paths]))
    listing = Listing()
    searched: set[Path] = set()
    for path in sorted(
        paths, key=lambda path: (os.path.islink(path), path)
    ):  # a folder with two names has its real one
        if not os.path.isdir(path):
            if is_image_file(path) or not os.path.exists(path):
                listing.files.append(path)
            else:
                listing.left_out.append(LeftOut(path, Reason.HIDDEN_FILE if is_hidden(path.name) else Reason.SUFFIX))
            continue
        real = path.resolve()
        if _is_output(path):
            listing.left_out.append(LeftOut(path, Reason.OUTPUT))
        elif real in searched or (path.is_symlink() and root.resolve().is_relative_to(real)):
            listing.left_out.append(LeftOut(path, Reason.LINKED_FOLDER))
        else:
            content = list_images(path, recursive=True, is_output=_is_output)
            listing.files += content.files
            listing.left_out += content.left_out
            searched.add(real)
    listing.files = sorted(set(listing.files))
    return root, listing


def _is_output(folder: Path) -> bool:
    """Whether a prediction or a run wrote the pictures in a folder; links are followed."""
    real = folder.resolve()
    return any(real.name in names and (real.parent / file).is_file() for file, names in OUTPUTS.items())
