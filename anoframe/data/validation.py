"""Is this dataset what the user thinks it is? Counts, what would break a run, and what would quietly bend its numbers.

A *problem* breaks a run or makes its numbers wrong; a *remark* is something to know. Without `decode` only the head and
the tail of each photograph are read, so that a run can afford it before it starts; masks are small and always decoded.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anoframe.data.dataset import Counts, Dataset
from anoframe.data.images import SUFFIXES, is_image_file, read_image, read_mask
from anoframe.data.probe import Probe, probe_all, same_bytes
from anoframe.errors import AnoframeError
from anoframe.types import GOOD, Sample

SHOWN = 10  # problems in an error message
HEADINGS = ("category", "train", "good", "defect", "masks", "official split", "defect types")
_MEANT_GOOD = {"good", "ok", "normal", "nominal", "defect_free", "defect-free"}


@dataclass(frozen=True)
class CategoryReport:
    """What a category holds."""

    name: str
    train: int
    test_good: int
    defects: dict[str, int]  # defect type -> test images
    masks: int
    official: Counts | None = None

    @property
    def counts(self) -> Counts:
        return Counts(self.train, self.test_good, sum(self.defects.values()))

    @property
    def verdict(self) -> str:
        """How the counts compare with the official split."""
        if self.official is None:
            return "-"
        return "match" if self.counts == self.official else "differs, {}/{}/{}".format(*self.official)


@dataclass
class Report:
    """Counts, problems and remarks of some categories of a dataset."""

    name: str
    root: Path
    absent: tuple[str, ...]
    categories: list[CategoryReport] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def raise_if_broken(self) -> None:
        """Raise AnoframeError with the first problems, if there are any."""
        if self.problems:
            shown = "\n".join(f"  {problem}" for problem in self.problems[:SHOWN])
            more = len(self.problems) - SHOWN
            rest = f"\n  and {more} more: python tools/check_data.py lists them all" if more > 0 else ""
            raise AnoframeError(f"{self.name} in {self.root} has {_count(self.problems, 'problem')}:\n{shown}{rest}")

    def table(self) -> str:
        """The report as text: a row a category, then what is absent, remarks and problems."""
        rows: list[tuple[str, ...]] = [HEADINGS]
        rows += [_row(category) for category in self.categories]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        if self.absent:
            lines.append(f"absent: {', '.join(self.absent)}")
        lines += [f"remark: {remark}" for remark in self.remarks]
        lines += [f"PROBLEM: {problem}" for problem in self.problems]
        lines.append(f"{_count(self.problems, 'problem')}, {_count(self.remarks, 'remark')}")
        return "\n".join(lines)


def check(dataset: Dataset, categories: Sequence[str], decode: bool = False, follow_links: bool = False) -> Report:
    """Look at every file of the categories.

    Args:
        decode: read every pixel, which finds damage in the middle of a photograph.
        follow_links: files outside the root, which links or `..` lead to, are but a remark.
    """
    report = Report(dataset.name, dataset.root, dataset.absent)
    for category in categories:
        _check_category(dataset, category, decode, follow_links, report)
    return report


def _check_category(dataset: Dataset, category: str, decode: bool, follow_links: bool, report: Report) -> None:
    samples = dataset.samples(category)
    train = [sample for sample in samples if sample.split == "train"]
    test = [sample for sample in samples if sample.split == "test"]
    masks = [sample.mask for sample in samples if sample.mask]
    probes = probe_all([sample.image for sample in samples], masks, decode)
    counts = _counts(dataset, category, train, test)
    sound = [[s.image for s in split if not probes[s.image].problem] for split in (train, test)]

    report.categories.append(counts)
    report.problems += [probe.problem for probe in probes.values() if probe.problem]
    report.problems += _split_problems(dataset.folder(category), train, test)
    report.problems += _mask_problems(test, probes)
    report.problems += _name_problems(samples)
    report.problems += [
        f"{copy}: the same bytes as training image {original}; remove one of the two"
        for original, copy in same_bytes(*sound)
    ]
    _check_strays(dataset, category, samples, report)
    images = [probes[sample.image] for sample in samples]
    remarks = [*_split_remarks(counts), *_file_remarks(images, [probes[mask] for mask in masks])]
    outside = _outside(dataset.root, [sample.image for sample in samples] + masks)
    if follow_links:
        remarks += [f"{_count(outside, 'file')} outside the root: {outside[0]}"] if outside else []
    elif outside:
        report.problems.append(
            f"{outside[0]}: lies outside of {dataset.root}, through a link or '..' ({_count(outside, 'such file')}); "
            "copy it into the root, or --data.follow_links True"
        )
    report.remarks.extend(f"{category}: {remark}" for remark in remarks)


def _counts(dataset: Dataset, category: str, train: list[Sample], test: list[Sample]) -> CategoryReport:
    by_type = Counter(sample.defect for sample in test)
    good = by_type.pop(GOOD, 0)
    masks = sum(sample.mask is not None for sample in test)
    return CategoryReport(category, len(train), good, dict(by_type), masks, dataset.official_counts.get(category))


def _split_problems(folder: Path, train: list[Sample], test: list[Sample]) -> Iterator[str]:
    if not train:
        yield f"{folder}: no training image{_others(folder / 'train')}; normal ones belong in train/good"
    if not test:
        yield f"{folder}: no test image{_others(folder / 'test')}; they belong in test/good and test/<defect>"
    for defect in sorted({sample.defect for sample in test} - {GOOD}):
        if defect.lower() in _MEANT_GOOD:
            yield f"{folder}: test/{defect} counts as a defect; normal test images belong in test/good"


def _others(folder: Path) -> str:
    """What else is there, where no image is found."""
    names = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    other = next((path for path in names if not is_image_file(path)), None)
    return f" (there is {other.relative_to(folder.parent)}; read are {', '.join(sorted(SUFFIXES))})" if other else ""


def _name_problems(samples: list[Sample]) -> Iterator[str]:
    """Names that no result could be written with."""
    for path in (path for sample in samples for path in (sample.image, sample.mask) if path):
        try:
            str(path).encode()
        except UnicodeEncodeError:
            shown = os.fsencode(path).decode("utf-8", "backslashreplace")
            yield f"{shown}: its name is not UTF-8; rename it"


def _mask_problems(test: list[Sample], probes: dict[Path, Probe]) -> Iterator[str]:
    any_mask = any(sample.mask for sample in test)
    users = Counter(sample.mask for sample in test if sample.mask)
    for sample in test:
        if sample.mask is None:
            if any_mask and sample.is_defect:
                yield f"{sample.image}: no mask, though other defects have one; add it, or remove all masks"
            continue
        if not sample.is_defect:
            yield f"{sample.mask}: a mask for the good image {sample.image}; remove it, or move the image to its defect"
        if users[sample.mask] > 1:
            yield f"{sample.mask}: the mask of {users[sample.mask]} images, {sample.image} is one; rename the images"
        if probes[sample.mask].empty and sample.is_defect:
            yield f"{sample.mask}: marks no pixel of the defect in {sample.image}; draw it, or move the image to good"
        yield from _size_problem(sample.image, probes[sample.image], sample.mask, probes[sample.mask])


def _size_problem(image: Path, image_probe: Probe, mask: Path, mask_probe: Probe) -> Iterator[str]:
    """A mask of another size than its image; where heads disagree, the decoded pixels decide."""
    if image_probe.size == mask_probe.size or image_probe.problem or mask_probe.problem:
        return
    try:
        (width, height), (mask_height, mask_width) = read_image(image).size, read_mask(mask).shape
    except AnoframeError as error:
        yield str(error)
        return
    if (width, height) != (mask_width, mask_height):
        yield f"{mask}: {mask_width} x {mask_height} pixels, its image {image} {width} x {height}; draw it on the image"


def _check_strays(dataset: Dataset, category: str, samples: list[Sample], report: Report) -> None:
    """Image files of a category that no sample uses."""
    used = {path for sample in samples for path in (sample.image, sample.mask)}
    masks = dataset.mask_folder(category)
    ignored, blank = [], 0
    for path in _image_files(dataset.folder(category)):
        if path in used:
            continue
        if not path.is_relative_to(masks):
            ignored.append(path)
        elif path.parent == masks / GOOD and _is_blank(path):
            blank += 1
        else:
            report.problems.append(f"{path}: a mask without a defect image of that name; rename or remove it")
    if ignored:
        report.remarks.append(
            f"{category}: {_count(ignored, 'image')} in neither train/good nor test/<defect> nor a split table, "
            f"and so not used: {ignored[0]}"
        )
    if blank:
        report.remarks.append(f"{category}: {blank} all-zero masks of good images, which are not needed")


def _image_files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        yield from (path for path in (Path(parent, name) for name in sorted(names)) if is_image_file(path))


def _is_blank(path: Path) -> bool:
    try:
        return not read_mask(path).any()
    except AnoframeError:
        return False


def _split_remarks(counts: CategoryReport) -> Iterator[str]:
    if counts.train == 1:
        yield "one training image; most methods want more"
    if not counts.test_good:
        yield "no good test image: image AUROC and AP are not available"
    if not counts.defects:
        yield "no defect test image: image and pixel metrics are not available"
    elif not counts.masks:
        yield "no masks: pixel metrics are not available"
    if counts.official and counts.official != counts.counts:
        yield "not the official split: its numbers are not comparable with published ones"


def _file_remarks(images: list[Probe], masks: list[Probe]) -> Iterator[str]:
    for mode, number in sorted(Counter(probe.mode for probe in images if not probe.problem).items()):
        if mode != "RGB":
            yield f"{number} images of mode {mode} are read as RGB"
    lossy = sum(probe.format in ("JPEG", "MPO") for probe in masks)
    if lossy:
        yield f"{lossy} masks are JPEG, whose noise around each edge counts as defect; save masks as PNG"
    full = sum(bool(probe.full) for probe in masks)
    if full:
        yield f"{full} masks mark every pixel: are they inverted?"


def _outside(root: Path, files: list[Path]) -> list[Path]:
    """Files that a copy of the root would lack. What the root itself lies behind does not matter."""
    real_root = root.resolve()
    real_parents = {parent: parent.resolve() for parent in {path.parent for path in files}}
    return [
        path
        for path in files
        if not (path.resolve() if path.is_symlink() else real_parents[path.parent]).is_relative_to(real_root)
    ]


def _row(category: CategoryReport) -> tuple[str, ...]:
    types = ", ".join(f"{defect} {number}" for defect, number in category.defects.items())
    numbers = (*category.counts, category.masks)
    return (category.name, *map(str, numbers), category.verdict, types)


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"
