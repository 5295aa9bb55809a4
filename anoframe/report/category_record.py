"""Results and pictures of one category of a run, read from its folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anoframe.errors import AnoframeError
from anoframe.evaluation.decision import is_defect
from anoframe.evaluation.results import Metrics
from anoframe.models.summary import MethodSummary
from anoframe.report.checked_reading import naming_file, path_inside, read_object
from anoframe.report.method_record import read_summary
from anoframe.report.number_checks import finite, read_metrics
from anoframe.report.sheet_record import Sheet, read_sheet
from anoframe.training.held_back import HELD_BACK_FILE, read_held_back
from anoframe.types import GOOD
from anoframe.utils.files import read_json

Curve = dict[str, list[float]]  # "x" and "y"
PICTURE_INDEX, REFERENCE_INDEX = "pictures.json", "references.json"  # in the folder of a category
WRONG = ("missed", "false alarm")  # outcomes


@dataclass(frozen=True)
class Scored:
    """Score of a test image.

    Attributes:
        name: file name, with its folder.
        defect: defect type, or "good".
        score: image score.
    """

    name: str
    defect: str
    score: float

    @property
    def is_defect(self) -> bool:
        return self.defect != GOOD

    def outcome(self, threshold: float | None) -> str:
        """Return `missed`, `false alarm`, `found` or `passed`; an empty string without a threshold."""
        if threshold is None:
            return ""
        flagged = bool(is_defect(self.score, threshold))
        if self.is_defect:
            return "found" if flagged else "missed"
        return "false alarm" if flagged else "passed"


@dataclass(frozen=True)
class Picture(Scored):
    """A file in `pictures/`, and the test image that it shows.

    Attributes:
        path: the file.
        kind: why it was selected: `worst`, `borderline` or `best`.
    """

    path: Path
    kind: str


@dataclass(frozen=True)
class Reference:
    """A file in `pictures/` that shows a training image of a few-shot run, and the name of that image."""

    name: str
    path: Path


@dataclass
class Category:
    """Results of one category; None or empty where the run folder has none.

    Attributes:
        failed: why the category has no metrics.
        counts: number of images per split.
        threshold: the stored threshold, with how it was set.
        images: scores of the test images.
        curves: `roc`, `pr`, `pro`, `pixel_roc`, `pixel_pr`, where available.
        method_summary: summary of the method; None if it reported nothing or the run is continual.
        defect_types: metrics of each defect type.
        sheet: thumbnails of the test images.
        held_back: scores of the held-back normal images that the threshold was estimated on.
    """

    name: str
    metrics: Metrics = field(default_factory=dict)
    failed: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    threshold: Mapping[str, Any] | None = None
    images: list[Scored] | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    method_summary: MethodSummary | None = None
    defect_types: Mapping[str, Metrics] = field(default_factory=dict)
    sheet: Sheet | None = None
    held_back: Sequence[float] = ()

    @property
    def image_threshold(self) -> float | None:
        """The image score from which on an image is a defect."""
        return None if self.threshold is None else float(self.threshold["image"])

    def count_outcomes(self) -> dict[str, int]:
        """Count the test images per outcome; empty without a threshold or scores."""
        counts = {"missed": 0, "false alarm": 0, "found": 0, "passed": 0}
        if self.image_threshold is None or self.images is None:
            return {}
        for image in self.images:
            counts[image.outcome(self.image_threshold)] += 1
        return counts


def read_category(folder: Path, category: Category) -> None:
    """Add results and pictures of a run folder to a category."""
    _add_results(folder, category)
    category.pictures = list(_pictures(folder, category.name))
    category.references = list(_references(folder, category.name))
    category.sheet = read_sheet(path_inside(folder / "pictures", category.name, "category"))
    category.held_back = _held_back(folder, category.name)


def _add_results(folder: Path, category: Category) -> None:
    """Add the content of `results/<category>.json`, if there is one."""
    path = path_inside(folder / "results", f"{category.name}.json", "category")
    tree = read_object(path)
    if not tree:
        return
    with naming_file(path):
        category.metrics = category.metrics or read_metrics(tree.get("metrics") or {})
        category.counts = category.counts or dict(tree.get("counts") or {})
        category.curves = {name: _curve(curve) for name, curve in (tree.get("curves") or {}).items() if curve}
        category.threshold = tree.get("threshold")
        if category.threshold is not None:
            finite(category.threshold["image"])
        rows = tree.get("images")
        category.images = None if rows is None else [_scored(row) for row in rows]
        summary = tree.get("method_summary")
        category.method_summary = None if summary is None else read_summary(summary)
        category.defect_types = {str(k): read_metrics(v) for k, v in (tree.get("defect_types") or {}).items()}


def _held_back(folder: Path, category: str) -> tuple[float, ...]:
    """Scores of held-back images in the checkpoints of a run; empty without any. No result depends on them."""
    for path in sorted((folder / "checkpoint").glob(f"*/{HELD_BACK_FILE}")):
        with suppress(AnoframeError):
            description = read_object(path.with_name("detector.json"))
            held_back = read_held_back(path.parent, str(description.get("learned_sha256")))
            if category in held_back:
                return tuple(held_back[category].scores)
    return ()


def _curve(curve: Mapping[str, Any]) -> Curve:
    x, y = ([finite(value) for value in curve[axis]] for axis in ("x", "y"))
    if len(x) != len(y):
        raise ValueError(f"a curve has {len(x)} x and {len(y)} y")
    if not all(0 <= value <= 1 for value in x + y) or x != sorted(x):
        raise ValueError("a curve leaves the unit square, or its x does not rise")
    return {"x": x, "y": y}


def _scored(row: Mapping[str, Any]) -> Scored:
    return Scored(str(row["name"]), str(row["defect"]), finite(row["score"]))


def _pictures(folder: Path, category: str) -> Iterator[Picture]:
    category_folder = path_inside(folder / "pictures", category, "category")
    index = category_folder / PICTURE_INDEX
    rows = read_json(index) if index.is_file() else []
    with naming_file(index):
        for row in rows:
            path = path_inside(category_folder, row["file"], "picture")
            yield Picture(str(row["name"]), str(row["defect"]), finite(row["score"]), path, str(row["kind"]))


def _references(folder: Path, category: str) -> Iterator[Reference]:
    category_folder = path_inside(folder / "pictures", category, "category")
    index = category_folder / REFERENCE_INDEX
    rows = read_json(index) if index.is_file() else []
    with naming_file(index):
        for row in rows:
            yield Reference(str(row["name"]), path_inside(category_folder, row["file"], "picture"))
