"""Report of the checks of a dataset: counts, problems and remarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anoframe.data.dataset import Counts
from anoframe.errors import AnoframeError

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
            found = f"{self.name} in {self.root} has {count_of(problems, 'problem')}{hint}"
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
        lines.append(f"{count_of(self.problems, 'problem')}, {count_of(self.remarks, 'remark')}")
        return "\n".join(lines)


def _table_row(category: CategoryReport) -> tuple[str, ...]:
    types = ", ".join(f"{defect} {count}" for defect, count in category.defects.items())
    numbers = (*category.counts, category.masks)
    return (category.name, *map(str, numbers), category.split_match, types)


def count_of(items: Sequence[object], noun: str) -> str:
    """Return the number of items with their noun, in the plural if needed."""
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"
