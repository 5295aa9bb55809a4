"""Checks of a dataset before training: counts of images, errors that would stop a run, conditions that bias metrics.

A *problem* stops a run or makes its metrics wrong; a *remark* is only worth knowing. Without `decode` only the first
and last bytes of each image are read, which is fast enough before every run; masks are small and always decoded.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anoframe.data.dataset import Counts, Dataset
from anoframe.data.duplicates import find_duplicates
from anoframe.data.file_checks import FileCheck, check_files
from anoframe.data.image_decoding import SIDEWAYS, SUFFIXES, is_image_file, read_image
from anoframe.data.layouts import layout_hint
from anoframe.data.listing import LeftOut, Reason, describe_left_out, is_hidden, list_images
from anoframe.data.masks import DEFAULT_MASKS, MaskSettings, mask_files, mask_orientation, read_mask, size_mismatch
from anoframe.data.mvtec_layout import MASKS, NAMES_OF_GOOD, misspelt_folder, subfolders
from anoframe.data.preprocessing import Preprocessing
from anoframe.errors import AnoframeError
from anoframe.types import GOOD, Sample

MAX_PROBLEMS = 10  # listed in an error message
HEADINGS = ("category", "train", "good", "defect", "masks", "official split", "defect types")


@dataclass(frozen=True)
class CategoryReport:
    """Counts of one category."""

    name: str
    train: int
    test_good: int
    defects: dict[str, int]  # defect type -> number of test images
    masks: int
    official: Counts | None = None
    train_defects: int = 0  # labelled defects among the training images

    @property
    def train_good(self) -> int:
        """Number of normal training images."""
        return self.train - self.train_defects

    @property
    def counts(self) -> Counts:
        return Counts(self.train, self.test_good, sum(self.defects.values()))

    @property
    def split_match(self) -> str:
        """Comparison of the counts with the official split."""
        if self.official is None:
            return "-"
        return "match" if self.counts == self.official else "differs, {}/{}/{}".format(*self.official)


@dataclass
class Report:
    """Counts, problems and remarks of the checked categories of a dataset.

    Attributes:
        problems: all of them, those of `training_problems` included.
        training_problems: categories without training images, which a method without training does not need.
    """

    name: str
    root: Path
    missing_categories: tuple[str, ...]
    categories: list[CategoryReport] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    training_problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    hint: str = ""  # the dataset whose layout the root has, if it is another one

    def raise_if_broken(self, is_trained: bool = True) -> None:
        """Raise AnoframeError with the first problems, if there are any.

        Args:
            is_trained: whether the categories need training images.
        """
        problems = [each for each in self.problems if is_trained or each not in self.training_problems]
        if problems:
            shown = "\n".join(f"  {problem}" for problem in problems[:MAX_PROBLEMS])
            more = len(problems) - MAX_PROBLEMS
            rest = f"\n  and {more} more: python tools/check_data.py lists them all" if more > 0 else ""
            hint = f" ({self.hint})" if self.hint else ""
            found = f"{self.name} in {self.root} has {_count(problems, 'problem')}{hint}"
            raise AnoframeError(f"{found}:\n{shown}{rest}")

    def table(self) -> str:
        """Format the report: one row per category, then missing categories, remarks and problems."""
        rows: list[tuple[str, ...]] = [HEADINGS]
        rows += [_table_row(category) for category in self.categories]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        if self.missing_categories:
            lines.append(f"not on disk: {', '.join(self.missing_categories)}")
        lines += [f"remark: {remark}" for remark in self.remarks]
        lines += [f"PROBLEM: {problem}" for problem in self.problems]
        lines.append(f"{_count(self.problems, 'problem')}, {_count(self.remarks, 'remark')}")
        return "\n".join(lines)


def check_dataset(
    dataset: Dataset,
    categories: Sequence[str],
    decode: bool = False,
    follow_links: bool = False,
    masks: MaskSettings = DEFAULT_MASKS,
    preprocessing: Preprocessing | None = None,
) -> Report:
    """Check every file of the given categories.

    Args:
        dataset: an opened dataset.
        categories: names of categories on disk.
        decode: decode every image, which also detects damage in the middle of a file.
        follow_links: accept files outside the root, reached by links or `..`, with a remark.
        masks: how masks are read.
        preprocessing: of a run, to find masks that it loses; None does not look for them.
    """
    report = Report(dataset.name, dataset.root, dataset.missing_categories)
    report.remarks += _unread_in_root(dataset.root)
    for category in categories:
        _check_category(dataset, category, decode, follow_links, masks, preprocessing, report)
    if report.problems or not all(category.train and sum(category.counts[1:]) for category in report.categories):
        report.hint = layout_hint(dataset.root, dataset.name, specific=True)
        report.remarks += [report.hint] if report.hint else []
    return report


def _check_category(
    dataset: Dataset,
    category: str,
    decode: bool,
    follow_links: bool,
    settings: MaskSettings,
    preprocessing: Preprocessing | None,
    report: Report,
) -> None:
    samples = dataset.samples(category)
    train = [sample for sample in samples if sample.split == "train"]
    test = [sample for sample in samples if sample.split == "test"]
    images, masks = [sample.image for sample in samples], [sample.mask for sample in samples if sample.mask]
    image_by_mask = {sample.mask: sample.image for sample in samples if sample.mask}
    checks = check_files(images, image_by_mask, decode, settings, preprocessing)
    files = images + [file for mask in masks for file in ([mask] if checks[mask].problem else mask_files(mask))]
    counts = _count_images(dataset, category, train, test)
    report.categories.append(counts)

    report.problems += [check.problem for check in checks.values() if check.problem]
    report.training_problems += [] if train else [_no_training_image(dataset.folder(category))]
    report.problems += _split_problems(dataset.folder(category), train, test)
    mask_problems, empty_masks = list(_mask_problems(test, checks, settings)), list(_empty_masks(test, checks))
    report.problems += mask_problems if dataset.empty_masks_published else mask_problems + empty_masks
    report.problems += _file_name_problems(files)
    report.problems += _leakage_problems(train, test, checks)
    left_out = dataset.left_out(category)
    unused_problems, unused_remarks = _unused_files(dataset, category, samples, checks, settings)
    report.problems += unused_problems
    outside_problems, outside_remarks = _files_outside(dataset.root, files, follow_links)
    report.problems += outside_problems

    remarks = [f"{_count(paths, 'image')} {reason}" for reason, paths in left_out.items() if paths]
    remarks += [*dataset.notes(category), *unused_remarks, *_count_remarks(counts)]
    if dataset.empty_masks_published and empty_masks:
        remarks.append(f"{_count(empty_masks, 'mask')} without a pixel of the defect, as published")
    remarks += _format_remarks([checks[image] for image in images], [checks[mask] for mask in masks])
    remarks += _frame_remarks(test, checks, settings)
    remarks += _lost_mask_remarks(masks, checks, settings, preprocessing)
    report.remarks.extend(f"{category}: {remark}" for remark in [*remarks, *outside_remarks])


def _count_images(dataset: Dataset, category: str, train: list[Sample], test: list[Sample]) -> CategoryReport:
    by_type = Counter(sample.defect for sample in test)
    good = by_type.pop(GOOD, 0)
    masks = sum(sample.mask is not None for sample in test)
    official = dataset.official_counts.get(category) if dataset.split.is_official else None  # no other split has them
    train_defects = sum(sample.is_defect for sample in train)
    return CategoryReport(category, len(train), good, dict(by_type), masks, official, train_defects)


# ------------------------------------------------------------------------------------------------ splits and names


def _split_problems(folder: Path, train: list[Sample], test: list[Sample]) -> Iterator[str]:
    """Empty splits, and normal test images in a folder that counts as a defect type."""
    if wrong := misspelt_folder(folder):
        yield f"{folder}: {wrong}"
    if not train:
        yield _no_training_image(folder)
    if not test and (hint := _other_file_hint(folder / "test")):
        yield f"{folder}: no test image{hint}; they belong in test/good and test/<defect>"
    for defect in sorted({sample.defect for sample in test} - {GOOD}):
        if defect.lower() in NAMES_OF_GOOD and (folder / "test").is_dir():
            yield (
                f"{folder}: test/{defect} counts as a defect; normal test images belong in test/good"
                + _rename_hint(folder, "test")
            )


def _no_training_image(folder: Path) -> str:
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


def _file_name_problems(files: list[Path]) -> Iterator[str]:
    """File names that cannot be written to result files."""
    for path in files:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            shown = os.fsencode(path).decode("utf-8", "backslashreplace")
            yield f"{shown}: its name is not UTF-8; rename it"


def _leakage_problems(train: list[Sample], test: list[Sample], checks: Mapping[Path, FileCheck]) -> Iterator[str]:
    """Test images that are also training images."""
    readable = [[s.image for s in split if not checks[s.image].problem] for split in (train, test)]
    for original, copy in find_duplicates(*readable):
        yield f"{copy}: the same bytes as training image {original}; remove one of the two"


# ------------------------------------------------------------------------------------------------ masks


def _mask_problems(test: list[Sample], checks: Mapping[Path, FileCheck], settings: MaskSettings) -> Iterator[str]:
    """Defects without a mask where others have one, and masks that are shared, misplaced or of a wrong size."""
    any_mask = any(sample.mask for sample in test)
    mask_uses = Counter(sample.mask for sample in test if sample.mask)
    for sample in test:
        if sample.mask is None:
            if any_mask and sample.is_defect:
                size = _size_hint(checks[sample.image], settings)
                yield f"{sample.image}: no mask, although other defects have one; add it, or remove all masks{size}"
            continue
        if not sample.is_defect:
            yield f"{sample.mask}: a mask for the good image {sample.image}; remove it, or move the image to its defect"
        if mask_uses[sample.mask] > 1:
            yield (
                f"{sample.mask}: the mask of {mask_uses[sample.mask]} images, one is {sample.image}; rename the images"
            )
        yield from _mask_size_problem(sample.image, sample.mask, checks, settings)


def _empty_masks(test: list[Sample], checks: Mapping[Path, FileCheck]) -> Iterator[str]:
    """Masks of defects that mark no pixel."""
    for sample in test:
        if sample.mask and checks[sample.mask].is_empty and sample.is_defect:
            yield f"{sample.mask}: marks no pixel of the defect in {sample.image}; draw it, or move the image to good"


def _mask_size_problem(
    image: Path, mask: Path, checks: Mapping[Path, FileCheck], settings: MaskSettings
) -> Iterator[str]:
    """A mask of another size than its image; if the headers differ, the decoded sizes decide."""
    if checks[image].size == checks[mask].size or checks[image].problem or checks[mask].problem:
        return
    try:
        image_size = read_image(image).size
        mask_height, mask_width = read_mask(mask, mask_orientation(image, settings)).shape
    except AnoframeError as error:
        yield str(error)
        return
    if image_size != (mask_width, mask_height):
        other = "stored" if settings.is_upright else "upright"
        fits_other = image_size == (mask_height, mask_width) and checks[image].orientation in SIDEWAYS
        hint = f", or set data.mask_frame {other} if the masks lie on the {other} picture" if fits_other else ""
        yield size_mismatch(mask, (mask_width, mask_height), image, image_size) + hint


def _size_hint(check: FileCheck, settings: MaskSettings) -> str:
    """Size that the mask of an image must have, for an error message; empty for an image that cannot be read."""
    if check.size is None:
        return ""
    width, height = check.size
    if not settings.is_upright and check.orientation in SIDEWAYS:
        width, height = height, width
    return f" (its size is {width} x {height} pixels)"


# ------------------------------------------------------------------------------------------------ other files


def _unread_in_root(root: Path) -> Iterator[str]:
    """Entries of the root that may have been meant as categories: broken links and folders without permission."""
    reasons = (Reason.BROKEN_LINK, Reason.UNREADABLE)
    yield from describe_left_out(entry for entry in list_images(root).left_out if entry.reason in reasons)


def _unused_files(
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
            f"{_count(ignored, 'image')} in neither train/good nor test/<defect> nor a split table, nor directly in "
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
        f"{message}. The mask of {image} is {image.stem}_mask.png{_size_hint(checks[image], settings)}; several masks "
        f"of it belong in a folder {defect}/{image.stem}"
    )


def _is_empty_mask(path: Path) -> bool:
    try:
        return not read_mask(path).any()
    except AnoframeError:
        return False


def _files_outside(root: Path, files: list[Path], follow_links: bool) -> tuple[list[str], list[str]]:
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
        return [], [f"{_count(outside, 'file')} outside the root: {outside[0]}"]
    problem = (
        f"{outside[0]}: lies outside of {root}, through a link or '..' ({_count(outside, 'such file')}); "
        "copy it into the root, or --data.follow_links True"
    )
    return [problem], []


# ------------------------------------------------------------------------------------------------ remarks


def _count_remarks(counts: CategoryReport) -> Iterator[str]:
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


def _format_remarks(images: list[FileCheck], masks: list[FileCheck]) -> Iterator[str]:
    """Unusual pixel formats, JPEG masks and inverted masks."""
    for mode, count in sorted(Counter(check.mode for check in images if not check.problem).items()):
        if mode != "RGB":
            yield f"{count} images of mode {mode} are read as RGB"
    lossy = sum(check.format in ("JPEG", "MPO") for check in masks)
    if lossy:
        yield f"{lossy} masks are JPEG, and their compression noise counts as defect; save masks as PNG"
    full = sum(bool(check.is_full) for check in masks)
    if full:
        yield f"{full} masks mark every pixel: are they inverted?"


def _frame_remarks(test: list[Sample], checks: Mapping[Path, FileCheck], settings: MaskSettings) -> Iterator[str]:
    """Images that EXIF turns or mirrors, with masks whose size does not show on which pixels they were drawn."""
    turned = [
        sample.image
        for sample in test
        if sample.mask
        and checks[sample.image].orientation != checks[sample.mask].orientation
        and (checks[sample.image].orientation not in SIDEWAYS or _is_square(checks[sample.image]))
    ]
    if turned:
        other = "stored" if settings.is_upright else "upright"
        are = "is" if len(turned) == 1 else "are"
        yield (
            f"{_count(turned, 'image')} with a mask {are} turned or mirrored by EXIF, and the masks are taken to lie "
            f"on the {settings.frame} picture; if they do not, set data.mask_frame {other}: {turned[0]}"
        )


def _is_square(check: FileCheck) -> bool:
    return check.size is not None and check.size[0] == check.size[1]


def _lost_mask_remarks(
    masks: list[Path],
    checks: Mapping[Path, FileCheck],
    settings: MaskSettings,
    preprocessing: Preprocessing | None,
) -> Iterator[str]:
    """Masks of which no defect pixel is left at the resolution of a run."""
    lost = [mask for mask in masks if checks[mask].is_lost]
    if lost and preprocessing:
        lose = "loses" if len(lost) == 1 else "lose"
        yield (
            f"{_count(lost, 'mask')} {lose} every defect pixel at data.resize {preprocessing.resize}, data.crop "
            f"{preprocessing.crop} and data.mask_rule {settings.rule}: {lost[0]}"
        )


def _table_row(category: CategoryReport) -> tuple[str, ...]:
    types = ", ".join(f"{defect} {count}" for defect, count in category.defects.items())
    numbers = (*category.counts, category.masks)
    return (category.name, *map(str, numbers), category.split_match, types)


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"
