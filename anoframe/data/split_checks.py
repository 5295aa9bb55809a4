"""Checks of the splits of a category: empty ones, misspelt folders, and training images among the test images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from anoframe.data.duplicates import find_duplicates
from anoframe.data.file_checks import FileCheck
from anoframe.data.image_decoding import SUFFIXES, is_image_file
from anoframe.data.listing import is_hidden
from anoframe.data.mvtec_layout import NAMES_OF_GOOD, misspelt_folder, subfolders
from anoframe.data.validation_report import CategoryReport
from anoframe.types import GOOD, Sample


def split_problems(folder: Path, train: list[Sample], test: list[Sample]) -> Iterator[str]:
    """Empty splits, and normal test images in a folder that counts as a defect type."""
    if wrong := misspelt_folder(folder):
        yield f"{folder}: {wrong}"
    if not train:
        yield no_training_image(folder)
    if not test and (hint := _other_file_hint(folder / "test")):
        yield f"{folder}: no test image{hint}; they belong in test/good and test/<defect>"
    for defect in sorted({sample.defect for sample in test} - {GOOD}):
        if defect.lower() in NAMES_OF_GOOD and (folder / "test").is_dir():
            yield (
                f"{folder}: test/{defect} counts as a defect; normal test images belong in test/good"
                + _rename_hint(folder, "test")
            )


def no_training_image(folder: Path) -> str:
    """Say that a category has no training image, and what may have been meant as one."""
    hint = _other_file_hint(folder / "train")
    return f"{folder}: no training image{hint}; normal images belong in train/good{_rename_hint(folder, 'train')}"


def _rename_hint(folder: Path, split: str) -> str:
    """Name a subfolder of a split that has another name for `good`, or other capitals, for an error message."""
    names = [path.name for path in subfolders(folder / split) if path.name.lower() in NAMES_OF_GOOD - {path.name}]
    if not names or (folder / split / GOOD).exists():
        return ""
    capitals = ", which differs only in capitals" if names[0].lower() == GOOD else ""
    return f": rename {split}/{names[0]}{capitals}"


def _other_file_hint(folder: Path) -> str:
    """Name a file in a folder without samples, for an error message; empty if there is none."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not is_hidden(path.name)]
    other = next((path for path in files if not is_image_file(path)), None)
    if other:
        return f" (found {other.relative_to(folder.parent)}; supported extensions are {', '.join(sorted(SUFFIXES))})"
    return f" (found {files[0].relative_to(folder.parent)})" if files else ""


def file_name_problems(files: list[Path]) -> Iterator[str]:
    """File names that cannot be written to result files."""
    for path in files:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            shown = os.fsencode(path).decode("utf-8", "backslashreplace")
            yield f"{shown}: its name is not UTF-8; rename it"


def leakage_problems(train: list[Sample], test: list[Sample], checks: Mapping[Path, FileCheck]) -> Iterator[str]:
    """Test images that are also training images."""
    readable = [[s.image for s in split if not checks[s.image].problem] for split in (train, test)]
    for original, copy in find_duplicates(*readable):
        yield f"{copy}: the same bytes as training image {original}; remove one of the two"


def count_remarks(counts: CategoryReport) -> Iterator[str]:
    """Small or incomplete splits, and the metrics that are not available for them."""
    if counts.train == 1:
        yield "one training image; most methods need more"
    if not counts.test_good and not counts.defects:
        yield "no test image: metrics are not available, but thresholds and predictions are"
        return
    if not counts.test_good:
        yield "no good test image: image AUROC and AP are not available"
    if not counts.defects:
        yield "no defect test image: image and pixel metrics are not available"
    elif not counts.masks:
        yield "no masks: pixel metrics are not available"
    if counts.official and counts.official != counts.counts:
        yield "not the official split: its metrics are not comparable with published ones"
