"""`predictions.html`: a gallery of a prediction that sorts and filters, written from `scores.jsonl` and the overlays.

The page needs no network and no server. It holds names, scores and decisions; pictures are small files in `thumbnails/`
that the browser loads when they are shown, 60 at a time, and each links to its overlay. So it opens with any number of
images: the list is bounded (`MOST`), and `scores.csv` has all of them.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from markupsafe import Markup
from PIL import Image, ImageOps

from anoframe.errors import AnoframeError
from anoframe.report.charts.axes import number
from anoframe.report.templating import render, script
from anoframe.utils.files import write_atomic
from anoframe.utils.progress import progress
from anoframe.utils.type_check import matches_type

PAGE, THUMBNAILS = "predictions.html", "thumbnails"
MOST = 20_000  # images in the list: about 2.5 MB
_SIDE = 192  # pixels, longest side of a thumbnail
_UNREAD, _GOOD, _DEFECT, _UNDECIDED = "not read", "good", "defect", ""


@dataclass
class Counted:
    """Number of images per decision, and the thresholds that decided."""

    decisions: dict[str, int] = field(default_factory=dict)
    thresholds: set[float] = field(default_factory=set)
    total: int = 0


class _Row(NamedTuple):
    """An image of the list."""

    file: str
    score: float | None
    decision: str
    overlay: str | None
    regions: list[float] | None
    remark: str


def write_predictions_page(folder: Path, about: str = "") -> Path:
    """Write `predictions.html` and the thumbnails of a prediction.

    An overlay that cannot be read has no thumbnail; the page shows its score.

    Args:
        folder: with `scores.jsonl` and `overlays/`.
        about: what predicted: method, category.

    Raises:
        OutputError: the page cannot be written.
    """
    counted = Counted()
    rows = heapq.nlargest(MOST, _count(_read(folder / "scores.jsonl"), counted), key=_rank)
    thresholds = [number(value) for value in sorted(counted.thresholds)]
    tree = {"images": [_listed(folder, row) for row in progress(rows, "gallery", unit="image")]}
    text = json.dumps(tree, ensure_ascii=True, separators=(",", ":"))
    page = render(
        "predictions.html",
        page_script=script("predictions.js"),
        image_sources="'self' file: data:",
        about=about,
        counted=counted,
        thresholds=thresholds,
        left_out=counted.total - len(rows),
        data=Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")),
    )
    write_atomic(folder / PAGE, page)
    return folder / PAGE


def remove_predictions_page(folder: Path) -> None:
    """Remove the page and thumbnails of an earlier prediction, which its `scores.jsonl` lists."""
    for row in _read(folder / "scores.jsonl"):
        if file := _overlay(row):
            thumbnail = folder / _thumbnail_file(file)
            if thumbnail.parent.resolve().is_relative_to(folder.resolve()):  # not through a link to another place
                with suppress(OSError):
                    thumbnail.unlink(missing_ok=True)
                with suppress(OSError):  # not empty
                    for parent in list(PurePosixPath(_thumbnail_file(file)).parents)[:-1]:
                        (folder / parent).rmdir()
    with suppress(OSError):
        (folder / PAGE).unlink(missing_ok=True)


def _read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of `scores.jsonl`; lines of other programs are skipped."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with suppress(ValueError, RecursionError):
                row = json.loads(line)
                if isinstance(row, dict) and isinstance(row.get("file"), str):
                    yield row


def _count(rows: Iterator[dict[str, Any]], counted: Counted) -> Iterator[_Row]:
    """Count the lines, and yield of each what the page shows, which is short: a line may list many regions."""
    for row in rows:
        decision = _decision(row)
        counted.decisions[decision] = counted.decisions.get(decision, 0) + 1
        counted.total += 1
        if matches_type(row.get("threshold"), float):
            counted.thresholds.add(float(row["threshold"]))
        score = None if decision == _UNREAD else float(row["score"])
        remark = str(row.get("error") or row.get("warning") or "")
        yield _Row(row["file"], score, decision, _overlay(row), _regions(row), remark)


def _decision(row: Mapping[str, Any]) -> str:
    if not matches_type(row.get("score"), float):
        return _UNREAD
    return {True: _DEFECT, False: _GOOD}.get(row.get("defect"), _UNDECIDED)  # type: ignore[arg-type]


def _rank(row: _Row) -> tuple[int, float]:
    """Files that were not read first, then defects, each with the highest scores first."""
    order = (_UNDECIDED, _GOOD, _DEFECT, _UNREAD).index(row.decision)
    return max(order, 1), row.score or 0.0


def _listed(folder: Path, row: _Row) -> list[Any]:
    """Write the thumbnail of an image, and return what the script needs of it."""
    thumbnail = _write_thumbnail(folder, row.overlay) if row.overlay else None
    return [row.file, row.score, row.decision, row.overlay, thumbnail, row.regions, row.remark]


def _regions(row: Mapping[str, Any]) -> list[float] | None:
    """Number of regions above the pixel threshold, and box and peak of the largest one; None where not known."""
    regions = row.get("regions")
    if not isinstance(regions, list):
        return None
    first = regions[0] if regions and isinstance(regions[0], dict) else {}
    values = [first.get(key) for key in ("x", "y", "width", "height", "area", "peak")]
    known = all(matches_type(value, float) for value in values)
    return [len(regions), *(values if known else ())]  # type: ignore[list-item]


# ------------------------------------------------------------------------------------------------ thumbnails


def _overlay(row: Mapping[str, Any]) -> str | None:
    """The overlay of a line, if it lies where a prediction writes overlays."""
    file = row.get("overlay")
    if not isinstance(file, str):
        return None
    parts = file.split("/")
    return file if parts[0] == "overlays" and len(parts) > 1 and not {"", ".", ".."} & set(parts) else None


def _thumbnail_file(overlay: str) -> str:
    return f"{THUMBNAILS}/{overlay.removeprefix('overlays/')}"


def _write_thumbnail(folder: Path, overlay: str) -> str | None:
    """Write a small copy of an overlay, upright; None if that fails."""
    file = _thumbnail_file(overlay)
    try:
        with Image.open(folder / overlay) as picture:
            picture.draft("RGB", (_SIDE, _SIDE))  # decodes a large JPEG at a fraction of its size
            small = ImageOps.exif_transpose(picture).convert("RGB")
        small.thumbnail((_SIDE, _SIDE))
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        small.save(path, "JPEG", quality=80)
    except (OSError, ValueError, AnoframeError, Image.DecompressionBombError):
        return None
    return file
