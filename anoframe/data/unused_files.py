"""Checks of files that no sample uses, and of files that lie outside the root of a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from anoframe.data.dataset import Dataset
from anoframe.data.file_checks import FileCheck
from anoframe.data.listing import LeftOut, Reason, describe_left_out, list_images
from anoframe.data.mask_checks import size_hint
from anoframe.data.masks import MaskSettings, read_mask
from anoframe.data.mvtec_layout import MASKS
from anoframe.data.validation_report import count_of
from anoframe.errors import AnoframeError
from anoframe.types import GOOD, Sample


def unread_in_root(root: Path) -> Iterator[str]:
    """Entries of the root that may have been meant as categories: broken links and folders without permission."""
    reasons = (Reason.BROKEN_LINK, Reason.UNREADABLE)
    yield from describe_left_out(entry for entry in list_images(root).left_out if entry.reason in reasons)


def unused_files(
    dataset: Dataset,
    category: str,
    samples: list[Sample],
    checks: Mapping[Path, FileCheck],
    settings: MaskSettings,
) -> tuple[list[str], list[str]]:
    """Return problems and remarks about files of a category that no sample uses."""
    used = {path for sample in samples for path in (sample.image, sample.mask) if path}
    if not dataset.split.is_official:
        unused = dataset.divide(category).unused
        used.update(path for sample in unused for path in (sample.image, sample.mask) if path)
    used.update(path for paths in dataset.left_out(category).values() for path in paths)
    used.update(dataset.files_of_other_categories(category))
    folder, masks = dataset.folder(category), dataset.mask_folder(category)
    listing = list_images(folder, recursive=True)
    problems, ignored, empty_good_masks = [], [], 0
    for path in listing.files:
        if path in used or path.parent in used:  # a folder of masks is used as a whole
            continue
        if masks is None or not path.is_relative_to(masks):
            ignored.append(path)
        elif path.parent == masks / GOOD and _is_empty_mask(path):
            empty_good_masks += 1
        else:
            problems.append(_stray_mask(path, masks, samples, checks, settings))
    remarks = []
    if ignored:
        remarks.append(
            f"{count_of(ignored, 'image')} in neither train/good nor test/<defect> nor a split table, nor directly in "
            f"such a folder, and therefore not used: {ignored[0]}"
        )
    if empty_good_masks:
        remarks.append(f"{empty_good_masks} all-zero masks of good images, which are not needed")
    return problems, remarks + list(describe_left_out(_unread(listing.left_out, folder, used)))


def _unread(left_out: list[LeftOut], folder: Path, used: set[Path]) -> Iterator[LeftOut]:
    """Yield what is left out of a category, without notes beside its folders and links whose images are used."""
    folders = {path.parent for path in used}
    for entry in left_out:
        is_note = entry.reason is Reason.SUFFIX and entry.path.parent == folder
        if not is_note and entry.path not in folders:
            yield entry


def _stray_mask(
    path: Path, masks: Path, samples: list[Sample], checks: Mapping[Path, FileCheck], settings: MaskSettings
) -> str:
    """Describe a mask that no image uses, with the name and the size that the mask of the likely image has."""
    defect = path.relative_to(masks).parts[0]
    near = [
        sample.image
        for sample in samples
        if sample.is_defect and sample.defect == defect and path.stem.lower().startswith(sample.image.stem.lower())
    ]
    message = f"{path}: a mask without a defect image of that name; rename or remove it"
    if masks.name != MASKS:  # a split table names the masks
        return message
    if not near:
        return message + ". The mask of test/<defect>/NAME.png is ground_truth/<defect>/NAME_mask.png, at the same size"
    image = max(near, key=lambda image: len(image.stem))
    return (
        f"{message}. The mask of {image} is {image.stem}_mask.png{size_hint(checks[image], settings)}; several masks "
        f"of it belong in a folder {defect}/{image.stem}"
    )


def _is_empty_mask(path: Path) -> bool:
    try:
        return not read_mask(path).any()
    except AnoframeError:
        return False


def files_outside(root: Path, files: list[Path], follow_links: bool) -> tuple[list[str], list[str]]:
    """Return problems and remarks about files that a copy of the root would lack; the root itself may be a link."""
    real_root = root.resolve()
    real_parents = {parent: parent.resolve() for parent in {path.parent for path in files}}
    outside = [
        path
        for path in files
        if not (path.resolve() if path.is_symlink() else real_parents[path.parent]).is_relative_to(real_root)
    ]
    if not outside:
        return [], []
    if follow_links:
        return [], [f"{count_of(outside, 'file')} outside the root: {outside[0]}"]
    problem = (
        f"{outside[0]}: lies outside of {root}, through a link or '..' ({count_of(outside, 'such file')}); "
        "copy it into the root, or --data.follow_links True"
    )
    return [problem], []
