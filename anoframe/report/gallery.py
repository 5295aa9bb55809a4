"""Pictures of a category, embedded in the page, with the values that the script filters and sorts by."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from anoframe.data.file_checks import THREADS
from anoframe.errors import AnoframeError
from anoframe.report.category_record import WRONG, Category, Picture
from anoframe.report.charts import number
from anoframe.report.encoding import encode_for_page
from anoframe.report.pictures import PANELS

_GAP = 4  # white pixels between the panels of a strip
_MAX_HEIGHT = 320  # pixels of an embedded picture
_KINDS = ("worst", "borderline", "best")


@dataclass(frozen=True)
class GalleryPicture:
    """A picture of the gallery.

    Attributes:
        source: the picture as a `data:` address.
        style: CSS variables of its shape.
        is_strip: whether it is a strip of four panels.
        defect: defect type.
        file: file name below its defect type.
        score: image score as text.
        sort_score: image score in full precision.
        rank: 0 first in the order "wrong first".
        outcome: `missed`, `false alarm`, `found`, `passed`, or empty without a threshold.
        is_wrong: whether the decision is wrong.
        kind: why it was selected.
        description: text for screen readers.
        image: place of the image in the list of test images; None if it is not in it.
    """

    source: str
    style: str
    is_strip: bool
    defect: str
    file: str
    score: str
    sort_score: str
    rank: int
    outcome: str
    is_wrong: bool
    kind: str
    description: str
    image: int | None


@dataclass(frozen=True)
class Gallery:
    """Pictures of a category, wrong decisions first; `defects` are (type, number of pictures)."""

    pictures: list[GalleryPicture]
    defects: list[tuple[str, int]]
    has_decisions: bool


def gallery(category: Category) -> Gallery:
    """Embed the pictures of a category.

    Raises:
        AnoframeError: if a file is not a picture.
    """
    threshold = category.image_threshold
    ordered = sorted(category.pictures, key=lambda picture: (_rank(picture, threshold), -picture.score, picture.name))
    defects: dict[str, int] = {}
    for picture in sorted(category.pictures, key=lambda picture: (picture.is_defect, picture.defect)):
        defects[picture.defect] = defects.get(picture.defect, 0) + 1
    places = {(image.defect, image.name): place for place, image in enumerate(category.images or [])}
    threads = min(THREADS, os.cpu_count() or 1)  # no more pictures in memory than are encoded at once
    with ThreadPoolExecutor(threads) as pool:
        embedded = list(pool.map(lambda picture: _embed(picture, threshold, places), ordered))
    return Gallery(embedded, list(defects.items()), threshold is not None)


def _rank(picture: Picture, threshold: float | None) -> int:
    """Wrong decisions first; without a threshold, in the order worst, borderline, best."""
    if threshold is not None:
        return int(picture.outcome(threshold) not in WRONG)
    return _KINDS.index(picture.kind) if picture.kind in _KINDS else len(_KINDS)


def _embed(picture: Picture, threshold: float | None, places: Mapping[tuple[str, str], int]) -> GalleryPicture:
    source, style, is_strip = _encode(picture.path)
    outcome = picture.outcome(threshold)
    facts = [picture.defect, picture.name, f"score {number(picture.score)}", *([outcome] if outcome else [])]
    prefix = "" if picture.name.startswith(f"{picture.defect}/") else f"{picture.defect}/"
    return GalleryPicture(
        source=source,
        style=style,
        is_strip=is_strip,
        defect=picture.defect,
        file=f"{prefix}{picture.name}",
        score=number(picture.score),
        sort_score=repr(picture.score),
        rank=_rank(picture, threshold),
        outcome=outcome,
        is_wrong=outcome in WRONG,
        kind=picture.kind,
        description=", ".join(facts),
        image=places.get((picture.defect, picture.name)),
    )


def _encode(path: Path) -> tuple[str, str, bool]:
    """Return a picture as a `data:` address, the CSS variables of its shape, and whether it is a strip."""
    try:
        with Image.open(path) as file:
            picture = file.convert("RGB")
    except (OSError, Image.DecompressionBombError, ValueError) as error:
        raise AnoframeError(f"{path} is not a picture ({error}): restore it, or run its category again") from error
    width, height = picture.size
    style = f"--ratio:{width / height:.4f}"
    is_strip = width == 4 * height + 3 * _GAP or picture.info.get(PANELS) == "4"
    if is_strip:
        panel = (width - 3 * _GAP) // 4
        style += f";--step:{(panel + _GAP) / width:.5f};--panel:{panel / width:.5f}"
        picture = _with_transparent_gaps(picture, panel)
    if height > _MAX_HEIGHT:
        picture = picture.resize((round(width * _MAX_HEIGHT / height), _MAX_HEIGHT), Image.Resampling.LANCZOS)
    kind, data = encode_for_page(picture, quality=82)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}", style, is_strip


def _with_transparent_gaps(strip: Image.Image, width: int) -> Image.Image:
    """Make the gaps between the panels transparent. Each gets the colour of its neighbours, so that no white bleeds
    into them when the strip is resized.

    Args:
        strip: four panels.
        width: of a panel.
    """
    height = strip.height
    filled, alpha = strip.copy(), Image.new("L", strip.size, 255)
    for panel in range(1, 4):
        right = panel * (width + _GAP)
        for column in range(_GAP):
            source = right - _GAP - 1 if column < _GAP // 2 else right
            filled.paste(strip.crop((source, 0, source + 1, height)), (right - _GAP + column, 0))
        alpha.paste(0, (right - _GAP, 0, right, height))
    filled.putalpha(alpha)
    return filled
