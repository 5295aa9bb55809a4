"""What the script of the report explores: a threshold with its decisions, defect types, and every test image."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import isfinite
from typing import Any

from markupsafe import Markup

from anoframe.evaluation.results import percent
from anoframe.metrics.catalogue import METRICS
from anoframe.report.category_record import Category
from anoframe.report.charts.scores import score_range
from anoframe.report.sheet_record import Sheet, sheet_places
from anoframe.types import GOOD


@dataclass(frozen=True)
class Confusion:
    """Decisions at the threshold of the run, as text; empty without a threshold."""

    defects: int
    good: int
    found: str = ""
    missed: str = ""
    false_alarms: str = ""
    passed: str = ""
    miss_rate: str = ""
    false_alarm_rate: str = ""


@dataclass(frozen=True)
class TypeRow:
    """A defect type: number of its images, how many are missed (empty without a threshold), and metrics as text."""

    name: str
    images: int
    missed: str
    metrics: list[str]


@dataclass(frozen=True)
class Explorer:
    """Values of `explorer.html` and `images.html`.

    Attributes:
        data: JSON for the script of the page: threshold, held-back scores, and name, type and score of each image.
        low, high: ends of the slider, in scores.
        threshold: of the run, as text in full precision; empty without one.
        confusion: decisions at the threshold of the run.
        type_metrics: titles of the metrics of the defect types; empty if there are none.
        types: one row per defect type.
        style: CSS of the sheet of thumbnails; empty without one.
        num_images: number of test images.
        no_thumbnail: number of test images without a thumbnail.
        held_back: number of held-back images with a known score.
    """

    data: Markup
    low: str
    high: str
    threshold: str
    confusion: Confusion
    type_metrics: list[str]
    types: list[TypeRow]
    style: Markup
    num_images: int
    no_thumbnail: int
    held_back: int


def explorer(category: Category, index: int) -> Explorer | None:
    """Prepare the explorer of a category; None without finite scores.

    Args:
        index: number of the category on the page, for the names of its styles.
    """
    images = category.images or []
    if not images or not all(isfinite(image.score) for image in images):
        return None
    low, high = score_range([image.score for image in images], category.image_threshold)
    names = list(dict.fromkeys(name for values in category.defect_types.values() for name in values))
    places = sheet_places(category.sheet, [(image.defect, image.name) for image in images])
    return Explorer(
        data=_data(category, index, (low, high), places),
        low=repr(low),
        high=repr(high),
        threshold="" if category.image_threshold is None else repr(category.image_threshold),
        confusion=_confusion(category),
        type_metrics=[METRICS[name].title for name in names if name in METRICS],
        types=_types(category, [name for name in names if name in METRICS]),
        style=_style(category.sheet, index),
        num_images=len(images),
        no_thumbnail=places.count(-1),
        held_back=len(category.held_back),
    )


def _data(category: Category, index: int, ends: tuple[float, float], places: list[int]) -> Markup:
    """Return the JSON of the script, safe inside a script element."""
    images = category.images or []
    defects = list(dict.fromkeys([GOOD, *sorted(image.defect for image in images)]))
    numbers = {name: number for number, name in enumerate(defects)}
    sheet = category.sheet
    tree: dict[str, Any] = {
        "threshold": category.image_threshold,
        "low": ends[0],
        "high": ends[1],
        "heldBack": sorted(category.held_back),
        "defects": defects,
        "sheet": None if sheet is None else {"name": f"sheet-{index}", "columns": sheet.columns},
        "images": [
            [image.name, numbers[image.defect], image.score, place] for image, place in zip(images, places, strict=True)
        ],
    }
    text = json.dumps(tree, ensure_ascii=True, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _style(sheet: Sheet | None, index: int) -> Markup:
    if sheet is None:
        return Markup("")
    last = f"--last-x:{2 * sheet.columns - 1};--last-y:{max(sheet.rows - 1, 1)}"
    size = f"--columns:{sheet.columns};--rows:{sheet.rows}"
    return Markup(f'.sheet-{index}{{background-image:url("{sheet.source()}");{size};{last}}}')


def _confusion(category: Category) -> Confusion:
    images, counts = category.images or [], category.count_outcomes()
    defects = sum(image.is_defect for image in images)
    good = len(images) - defects
    if not counts:
        return Confusion(defects, good)
    return Confusion(
        defects,
        good,
        found=str(counts["found"]),
        missed=str(counts["missed"]),
        false_alarms=str(counts["false alarm"]),
        passed=str(counts["passed"]),
        miss_rate=_share(counts["missed"], defects),
        false_alarm_rate=_share(counts["false alarm"], good),
    )


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.1f} %" if total else "n/a"


def _types(category: Category, names: list[str]) -> list[TypeRow]:
    rows = []
    for defect, metrics in category.defect_types.items():
        images = [image for image in category.images or [] if image.defect == defect]
        missed = sum(image.outcome(category.image_threshold) == "missed" for image in images)
        text = "" if category.image_threshold is None else str(missed)
        rows.append(TypeRow(defect, len(images), text, [percent(metrics.get(name)) for name in names]))
    return rows
