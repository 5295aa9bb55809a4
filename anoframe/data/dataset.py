"""What every dataset offers, and the two doors to them: `open_dataset` and `choose_categories`."""

from __future__ import annotations

import inspect
import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from anoframe.errors import AnoframeError, suggest
from anoframe.registry import DATASETS
from anoframe.types import Sample


class Counts(NamedTuple):
    """How many images a category has in each part of its split."""

    train: int
    test_good: int
    test_defect: int


class Dataset(ABC):
    """An index of labelled images under one root; nothing is decoded and nothing is downloaded.

    `categories` are those on disk, in alphabetical order; `absent` are official ones that are not.
    """

    name: ClassVar[str]
    tree: ClassVar[str]  # the expected folders, shown when they are not found
    official_counts: ClassVar[Mapping[str, Counts]] = {}

    def __init__(self, root: str | Path) -> None:
        """Raises AnoframeError, showing the expected tree, when the root or every category is missing."""
        self.root = Path(root)
        if not self.root.is_dir():
            what = "is a file, not a folder" if self.root.exists() else "does not exist"
            raise AnoframeError(
                f"dataset {self.name!r}: {self.root} {what}: --data.root says where it is. Expected\n{self.tree}"
            )
        self.categories: tuple[str, ...] = tuple(sorted(self._find_categories()))
        if not self.categories:
            raise AnoframeError(f"dataset {self.name!r}: {self._misplaced()}. Expected\n{self.tree}")

    @property
    def absent(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.official_counts) - set(self.categories)))

    def samples(self, category: str) -> list[Sample]:
        """Train, then test samples of a category, sorted by path within each split.

        Raises AnoframeError for a category that is unknown or not on disk. That every file can be read is for
        `anoframe.data.validation` to say.
        """
        _check_name(self, category)
        return self._index(category)

    @abstractmethod
    def folder(self, category: str) -> Path:
        """The folder that holds every file of a category."""

    @abstractmethod
    def mask_folder(self, category: str) -> Path:
        """The folder that holds every mask of a category; it need not exist."""

    @abstractmethod
    def _index(self, category: str) -> list[Sample]:
        """What `samples` returns, for a category on disk."""

    @abstractmethod
    def _find_categories(self) -> list[str]:
        """Categories on disk under `self.root`."""

    def _misplaced(self) -> str:
        return f"no category found in {self.root}"


def open_dataset(name: str, root: str | Path) -> Dataset:
    """The dataset of that name at that root.

    Raises AnoframeError for an unknown name, and for a root that is missing or not laid out as expected.
    """
    kind = DATASETS.load(name)
    if not (inspect.isclass(kind) and issubclass(kind, Dataset)):  # whatever it is, it is not to be called
        raise AnoframeError(f"dataset {name!r} is no Dataset: {suggest('', DATASETS.names())}")
    dataset: Dataset = DATASETS.build(name, root=root)
    return dataset


def choose_categories(dataset: Dataset, names: str | Sequence[str]) -> list[str]:
    """The categories to run, in the order given; `all` stands for those on disk.

    Raises AnoframeError for a name that is unknown, not on disk, or given twice.
    """
    names = [names] if isinstance(names, str) else list(names)
    if names == ["all"]:
        return list(dataset.categories)
    if not names:
        raise AnoframeError(f"no category given; {suggest('', [*dataset.categories, 'all'])}")
    for name in names:
        _check_name(dataset, name)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise AnoframeError(f"category given twice: {', '.join(repeated)}; name it once")
    return names


def _check_name(dataset: Dataset, name: str) -> None:
    if name in dataset.categories:
        return
    if name == "all":
        raise AnoframeError("'all' stands alone: give either 'all' or names of categories")
    if name.lower() == "all":
        raise AnoframeError(f"unknown category {name!r}: did you mean 'all'?")
    parts = [part.strip() for part in name.split(",")]
    if len(parts) > 1 and set(parts) <= {*dataset.categories, ""}:
        spaced = shlex.join(part for part in parts if part)
        raise AnoframeError(f"unknown category {name!r}: names have spaces between them, --cls_names {spaced}")
    if name in dataset.absent:
        raise AnoframeError(
            f"category {name!r} of {dataset.name!r} is not on disk: put it in {dataset.root}, "
            f"or choose from {', '.join(dataset.categories)}"
        )
    raise AnoframeError(f"unknown category {name!r} of {dataset.name!r}; {suggest(name, dataset.categories)}")
