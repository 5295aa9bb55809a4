"""Checks of a dataset before training: counts of images, errors that would stop a run, conditions that bias metrics.

A *problem* stops a run or makes its metrics wrong; a *remark* is only worth knowing. Without `decode` only the first
and last bytes of each image are read, which is fast enough before every run; masks are small and always decoded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from anoframe.data.dataset import Dataset
from anoframe.data.file_checks import check_files
from anoframe.data.layouts import layout_hint
from anoframe.data.mask_checks import empty_masks, format_remarks, frame_remarks, lost_mask_remarks, mask_problems
from anoframe.data.masks import DEFAULT_MASKS, MaskSettings, mask_files
from anoframe.data.preprocessing import Preprocessing
from anoframe.data.split_checks import (
    count_remarks,
    file_name_problems,
    leakage_problems,
    no_training_image,
    split_problems,
)
from anoframe.data.unused_files import files_outside, unread_in_root, unused_files
from anoframe.data.validation_report import CategoryReport, Report, count_of
from anoframe.types import GOOD, Sample


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
    report.remarks += unread_in_root(dataset.root)
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
    report.training_problems += [] if train else [no_training_image(dataset.folder(category))]
    report.problems += split_problems(dataset.folder(category), train, test)
    wrong, empty = list(mask_problems(test, checks, settings)), list(empty_masks(test, checks))
    report.problems += wrong if dataset.empty_masks_published else wrong + empty
    report.problems += file_name_problems(files)
    report.problems += leakage_problems(train, test, checks)
    left_out = dataset.left_out(category)
    unused_problems, unused_remarks = unused_files(dataset, category, samples, checks, settings)
    report.problems += unused_problems
    outside_problems, outside_remarks = files_outside(dataset.root, files, follow_links)
    report.problems += outside_problems

    remarks = [f"{count_of(paths, 'image')} {reason}" for reason, paths in left_out.items() if paths]
    remarks += [*dataset.notes(category), *unused_remarks, *count_remarks(counts)]
    if dataset.empty_masks_published and empty:
        remarks.append(f"{count_of(empty, 'mask')} without a pixel of the defect, as published")
    remarks += format_remarks([checks[image] for image in images], [checks[mask] for mask in masks])
    remarks += frame_remarks(test, checks, settings)
    remarks += lost_mask_remarks(masks, checks, settings, preprocessing)
    report.remarks.extend(f"{category}: {remark}" for remark in [*remarks, *outside_remarks])


def _count_images(dataset: Dataset, category: str, train: list[Sample], test: list[Sample]) -> CategoryReport:
    by_type = Counter(sample.defect for sample in test)
    good = by_type.pop(GOOD, 0)
    masks = sum(sample.mask is not None for sample in test)
    official = dataset.official_counts.get(category) if dataset.split.is_official else None  # no other split has them
    train_defects = sum(sample.is_defect for sample in train)
    return CategoryReport(category, len(train), good, dict(by_type), masks, official, train_defects)
