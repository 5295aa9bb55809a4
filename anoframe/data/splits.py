"""Splits: which images of a category train a detector and which test it. See docs/splits.md.

A split is a pure function of its name, its seed and the paths of the images below the root of the dataset. It depends
neither on the order in which a folder is listed nor on the content of the images nor on the process that computes it.

- `official`: as the dataset says.
- `few_shot`: `shots` normal training images; the test images are those of the dataset.
- `raml`: 80 % of the test images, good and defective, become training images. This is the protocol of RAML (Resolution-
  Adaptive Margin Learning): its reference code seeds Python's generator with 42 for each category, shuffles the good
  test images, then the defects, and trains on the first 80 % of each.
- `raml_grouped`: the same shares within each defect type, with a seed per category and defect type.
- `raml_pooled`: 80 % of all normal images, those for training included, and of all defects are training images. The
  "WinCLIP" column of the RAML repository was measured on it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from random import Random
from typing import NamedTuple

from anoframe.errors import AnoframeError, suggest
from anoframe.types import GOOD, Sample
from anoframe.utils.files import digest

OFFICIAL, FEW_SHOT, RAML, RAML_GROUPED, RAML_POOLED = "official", "few_shot", "raml", "raml_grouped", "raml_pooled"
SUPERVISED = (RAML, RAML_GROUPED, RAML_POOLED)  # splits whose training images have defects
SPLITS = (OFFICIAL, FEW_SHOT, *SUPERVISED)
_TAGS = {
    RAML: "raml-supervised-80/20",
    RAML_GROUPED: "raml-supervised-80/20-grouped",
    RAML_POOLED: "raml-supervised-80/20-pooled",
}


class Division(NamedTuple):
    """The samples of a category, each with the split that it belongs to; each list is sorted by path.

    `unused` samples are neither for training nor for testing.
    """

    train: list[Sample]
    test: list[Sample]
    unused: list[Sample]


@dataclass(frozen=True)
class Split:
    """How the samples of each category are divided.

    Args:
        name: one of `SPLITS`.
        seed: of the drawn images; `official` draws none.
        shots: number of training images of `few_shot`; 0 for the others.

    Raises:
        AnoframeError: the name is unknown, or `shots` does not fit to it.
    """

    name: str = OFFICIAL
    seed: int = 0
    shots: int = 0

    def __post_init__(self) -> None:
        if self.name not in SPLITS:
            raise AnoframeError(f"unknown data.split {self.name!r}: {suggest(self.name, SPLITS)}")
        if self.name == FEW_SHOT and self.shots < 1:
            raise AnoframeError(
                f"data.split few_shot needs data.shots, the number of training images, 1 or more, got {self.shots}: "
                "for example --data.shots 4"
            )
        if self.name != FEW_SHOT and self.shots:
            raise AnoframeError(
                f"data.shots {self.shots} goes with --data.split few_shot, got data.split {self.name}: set that, or "
                "--data.shots 0"
            )

    @property
    def is_official(self) -> bool:
        return self.name == OFFICIAL

    @property
    def protocol_tag(self) -> str:
        """Name of the protocol of a method that learns from the defects of this split; it stands beside its results."""
        return _TAGS.get(self.name, f"supervised-{self.name}")

    def provenance(self) -> dict[str, str | int]:
        """Return the config keys of section `data` that the split depends on; none for the official one.

        The seed that draws the images of `few_shot` is that of the run, which the provenance has anyway.
        """
        if self.is_official:
            return {}
        drawn = {"shots": self.shots} if self.name == FEW_SHOT else {"split_seed": self.seed}
        return {"split": self.name, **drawn}

    @property
    def trains_on_defects(self) -> bool:
        """Whether some test images of the dataset, defects among them, are training images."""
        return self.name in SUPERVISED

    def divide(self, samples: Sequence[Sample], root: Path) -> Division:
        """Divide the samples of one category.

        Args:
            samples: of the category, as the dataset divides them.
            root: of the dataset; the paths of the images below it decide.

        Raises:
            AnoframeError: fewer training images than `shots`.
        """
        if self.is_official:
            return Division(_of_split(samples, "train"), _of_split(samples, "test"), [])
        ordered = sorted(samples, key=lambda sample: _path_key(sample.image, root))
        train = self._training_images(ordered, root)
        test = self._test_images(ordered, train)
        unused = [sample for sample in ordered if sample.image not in train and sample.image not in test]
        return Division(
            [replace(sample, split="train") for sample in ordered if sample.image in train],
            [replace(sample, split="test") for sample in ordered if sample.image in test],
            unused,
        )

    def _training_images(self, ordered: Sequence[Sample], root: Path) -> set[Path]:
        """Return the training images of one category, given its samples sorted by path."""
        if self.name == FEW_SHOT:
            return _draw_shots(_of_split(ordered, "train"), self.shots, self.seed, root)
        test = ordered if self.name == RAML_POOLED else _of_split(ordered, "test")
        groups = _groups_by_defect(test) if self.name == RAML_GROUPED else _groups_by_label(test)
        generator = Random(self.seed)
        chosen: list[Sample] = [] if self.name == RAML_POOLED else _of_split(ordered, "train")
        for group in groups:
            if self.name == RAML_GROUPED:
                generator = Random(f"{self.seed}/{group[0].category}/{group[0].defect}")
            chosen += _shuffled_share(group, generator)
        return {sample.image for sample in chosen}

    def _test_images(self, ordered: Sequence[Sample], train: set[Path]) -> set[Path]:
        """Return the test images, given the training images: those of the dataset, or all others."""
        candidates = ordered if self.trains_on_defects else _of_split(ordered, "test")
        return {sample.image for sample in candidates} - train


def _of_split(samples: Sequence[Sample], split: str) -> list[Sample]:
    return [sample for sample in samples if sample.split == split]


def _path_key(image: Path, root: Path) -> tuple[str, ...]:
    """Return the folders and the name of an image below the root: sorted by folder, then by file name."""
    return PurePosixPath(relative_name(image, root)).parts


def relative_name(path: Path, root: Path) -> str:
    """Return the path of a file relative to the root of its dataset, with forward slashes."""
    return Path(os.path.relpath(path, root)).as_posix()


def _groups_by_label(ordered: Sequence[Sample]) -> list[list[Sample]]:
    """Good samples, then defects of all types; without empty groups."""
    groups = [[sample for sample in ordered if sample.is_defect is label] for label in (False, True)]
    return [group for group in groups if group]


def _groups_by_defect(ordered: Sequence[Sample]) -> list[list[Sample]]:
    """Good samples, then the samples of each defect type, in alphabetical order."""
    types = sorted({sample.defect for sample in ordered}, key=lambda defect: (defect != GOOD, defect))
    return [[sample for sample in ordered if sample.defect == defect] for defect in types]


def _shuffled_share(group: Sequence[Sample], generator: Random) -> list[Sample]:
    """Shuffle a group and return its first 80 %, rounded down."""
    shuffled = list(group)
    generator.shuffle(shuffled)
    return shuffled[: 4 * len(shuffled) // 5]


def _draw_shots(train: Sequence[Sample], shots: int, seed: int, root: Path) -> set[Path]:
    """Draw `shots` training images: the first ones, sorted by a hash of the seed and their path.

    The draw of fewer shots is a part of the draw of more shots with the same seed.
    """
    if shots > len(train):
        category = f"category {train[0].category!r}" if train else "a category"
        raise AnoframeError(
            f"data.shots {shots} is more than the training images of {category}, {len(train)}: lower --data.shots"
        )
    hashes = {sample.image: digest(os.fsencode(f"{seed}/{relative_name(sample.image, root)}")) for sample in train}
    return set(sorted(hashes, key=hashes.__getitem__)[:shots])
