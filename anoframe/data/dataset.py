"""The interface of all datasets, and the functions that open a dataset and select its categories."""

from __future__ import annotations

import inspect
import os
import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from anoframe.data.layouts import layout_hint
from anoframe.data.masks import Mask
from anoframe.data.splits import Division, Split
from anoframe.errors import AnoframeError, suggest
from anoframe.registry import DATASETS
from anoframe.types import Sample
from anoframe.utils.files import digest
from anoframe.utils.paths import expand_path


class Counts(NamedTuple):
    """Numbers of images of a category."""

    train: int
    test_good: int
    test_defect: int


@dataclass(frozen=True)
class NormalSplit:
    """How normal images are divided where the data themselves have no split.

    Args:
        train_share: of the images, in (0, 1); the others are test images.
        seed: of the order in which images are chosen. It follows from their names, not from their content or number.
    """

    train_share: float = 0.8
    seed: int = 0

    def divide(self, images: Sequence[Path]) -> tuple[list[Path], list[Path]]:
        """Divide images into those for training and those for testing, in their given order; of two or more, one each.

        Sorted by a hash of the seed and the file name, the first ones are for training.
        """
        ordered = sorted(images, key=lambda image: digest(os.fsencode(f"{self.seed}/{image.name}")))
        train = set(ordered[: min(max(1, round(self.train_share * len(images))), max(1, len(images) - 1))])
        return [image for image in images if image in train], [image for image in images if image not in train]


class Dataset(ABC):
    """Index of the labelled images under one root folder. It decodes no image and downloads nothing.

    Args:
        root: folder of the dataset.

    Attributes:
        name: of the dataset in a config.
        title: name in messages that suggest this dataset; empty: none does.
        expected_layout: folders and files below the root, shown in error messages.
        official_counts: category -> counts of the published split; empty for other data.
        defect_kinds: kind of defects -> defect type, if the published evaluation measures kinds by themselves.
        has_saturation_areas: `regions` reads saturation areas, so that sPRO is computed.
        empty_masks_published: the published masks of some defects are empty, which is then a remark, not a problem.
        categories: categories on disk, in alphabetical order.
        normal_split: divides the normal images of a category without a split.
        split: which of the images train and which test.

    Raises:
        AnoframeError: the root does not exist or contains no category; the message shows the expected layout.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    expected_layout: ClassVar[str]
    official_counts: ClassVar[Mapping[str, Counts]] = {}
    defect_kinds: ClassVar[Mapping[str, str]] = {}
    has_saturation_areas: ClassVar[bool] = False
    empty_masks_published: ClassVar[bool] = False

    normal_split = NormalSplit()
    split = Split()

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            problem = "is a file, not a folder" if self.root.exists() else "does not exist"
            raise AnoframeError(
                f"dataset {self.name!r}: {self.root} {problem}: --data.root must name its folder. Expected\n"
                f"{self.expected_layout}"
            )
        self.categories: tuple[str, ...] = tuple(sorted(self._find_categories()))
        if not self.categories:
            hint = layout_hint(self.root, self.name, specific=True)
            reason = f"no category found in {self.root}; {hint}" if hint else self._explain_no_category()
            raise AnoframeError(f"dataset {self.name!r}: {reason}. Expected\n{self.expected_layout}")

    @property
    def missing_categories(self) -> tuple[str, ...]:
        """Official categories that are not on disk."""
        return tuple(sorted(set(self.official_counts) - set(self.categories)))

    def samples(self, category: str) -> list[Sample]:
        """List the training samples, then the test samples of a category by `split`, each sorted by path.

        The files are not read; `anoframe.data.validation` checks them.

        Raises:
            AnoframeError: the category is unknown or not on disk, or has fewer training images than the split draws.
        """
        if self.split.is_official:
            _check_category_name(self, category)
            return self._index(category)
        division = self.divide(category)
        return [*division.train, *division.test]

    def divide(self, category: str) -> Division:
        """Divide the samples of a category by `split`; the samples that it does not use are listed too.

        Raises:
            AnoframeError: as `samples`.
        """
        _check_category_name(self, category)
        return self.split.divide(self._index(category), self.root)

    @classmethod
    def has_layout(cls, root: Path) -> bool:
        """Return whether a folder is a root of this dataset, judged by a few names in it."""
        return False

    def left_out(self, category: str) -> Mapping[str, Sequence[Path]]:
        """List the images of a category that are not used on purpose, by the reason, which follows their number."""
        return {}

    def files_of_other_categories(self, category: str) -> list[Path]:
        """List the files in the folder of a category that belong to other categories."""
        return []

    def notes(self, category: str) -> list[str]:
        """State what a user should know about how a category is read, if it is not as expected."""
        return []

    def regions(self, sample: Sample) -> list[tuple[Mask, float]]:
        """Read the defect regions of a sample with their saturation areas; none unless `has_saturation_areas`."""
        return []

    @abstractmethod
    def folder(self, category: str) -> Path:
        """Return the folder that contains all files of a category."""

    @abstractmethod
    def mask_folder(self, category: str) -> Path | None:
        """Return the folder that contains only masks of a category, existing or not; None if masks lie elsewhere."""

    @abstractmethod
    def _index(self, category: str) -> list[Sample]:
        """List the samples of a category that is on disk."""

    @abstractmethod
    def _find_categories(self) -> list[str]:
        """List the categories below `self.root`."""

    def _explain_no_category(self) -> str:
        """Describe why the root contains no category, for an error message."""
        for folder in sorted(self.root.iterdir()):
            if folder.is_dir() and self.has_layout(folder):
                return f"no category in {self.root}, but in {folder}: give that as the root"
        hint = layout_hint(self.root, self.name)
        return f"no category found in {self.root}" + (f"; {hint}" if hint else "")


def open_dataset(
    name: str, root: str | Path, normal_split: NormalSplit = NormalSplit(), split: Split | None = None
) -> Dataset:
    """Open a dataset by its name in a config.

    Args:
        name: of the dataset.
        root: folder of the dataset.
        normal_split, split: see `Dataset`; None is the official split.

    Raises:
        AnoframeError: the name is unknown, or the root is missing or has another layout.
    """
    dataset_class = DATASETS.load(name)
    if not (inspect.isclass(dataset_class) and issubclass(dataset_class, Dataset)):  # never call another object
        raise AnoframeError(f"dataset {name!r} is not a Dataset: {suggest('', DATASETS.names())}")
    dataset: Dataset = DATASETS.build(name, root=expand_path(root, "data.root"))
    dataset.normal_split, dataset.split = normal_split, split or Split()
    return dataset


def choose_categories(dataset: Dataset, names: str | Sequence[str]) -> list[str]:
    """Select the categories of a run, in the given order; `all` selects every category on disk.

    Raises:
        AnoframeError: a name is unknown, not on disk, or given twice.
    """
    names = [names] if isinstance(names, str) else list(names)
    if names == ["all"]:
        return list(dataset.categories)
    if not names:
        raise AnoframeError(f"no category given; {suggest('', [*dataset.categories, 'all'])}")
    for name in names:
        _check_category_name(dataset, name)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise AnoframeError(f"category given twice: {', '.join(repeated)}; name it once")
    return names


def _check_category_name(dataset: Dataset, name: str) -> None:
    if name in dataset.categories:
        return
    if name == "all":
        raise AnoframeError("'all' stands alone: give either 'all' or category names")
    if name.lower() == "all":
        raise AnoframeError(f"unknown category {name!r}: did you mean 'all'?")
    parts = [part.strip() for part in name.split(",")]
    if len(parts) > 1 and set(parts) <= {*dataset.categories, ""}:
        separated = shlex.join(part for part in parts if part)
        raise AnoframeError(f"unknown category {name!r}: write names with spaces between them, --cls_names {separated}")
    if name in dataset.missing_categories:
        raise AnoframeError(
            f"category {name!r} of {dataset.name!r} is not on disk: put it in {dataset.root}, "
            f"or choose from {', '.join(dataset.categories)}"
        )
    raise AnoframeError(f"unknown category {name!r} of {dataset.name!r}; {suggest(name, dataset.categories)}")
