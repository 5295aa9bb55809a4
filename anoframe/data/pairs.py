"""A sheet to look at: some images of each category beside their masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from anoframe.data.dataset import Dataset
from anoframe.data.images import read_image, read_mask
from anoframe.errors import AnoframeError
from anoframe.types import Sample

SIDE = 160  # pixels a picture may take in width and height
LABEL = 14
PAIRS = 4
_RED = (230, 30, 30)


def save_pairs(dataset: Dataset, categories: Sequence[str], path: Path) -> None:
    """Write a PNG with a row a category: up to four defects, of different types first, as image | mask | overlay.

    Files that cannot be read are left out: `check` names them.
    """
    rows = [_row(dataset, category) for category in categories]
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, format="PNG")


def _row(dataset: Dataset, category: str) -> Image.Image:
    row = Image.new("RGB", (PAIRS * 3 * SIDE, SIDE + LABEL), "white")
    for place, sample in enumerate(_varied(dataset.samples(category))[:PAIRS]):
        left = place * 3 * SIDE
        name = f"{category}: {sample.defect}/{sample.image.name}"
        ImageDraw.Draw(row).text((left + 2, 1), name.encode("ascii", "replace").decode(), fill="black")
        for column, picture in enumerate(_pictures(sample)):
            row.paste(picture, (left + column * SIDE, LABEL))
    return row


def _varied(samples: list[Sample]) -> list[Sample]:
    """Test defects, the first of each type before the second of any; good test images where there is no defect."""
    test = [sample for sample in samples if sample.split == "test"]
    defects = [sample for sample in test if sample.is_defect] or test
    turns: Counter[str] = Counter()
    ordered = []
    for place, sample in enumerate(defects):
        ordered.append((turns[sample.defect], place, sample))
        turns[sample.defect] += 1
    return [sample for _, _, sample in sorted(ordered, key=lambda item: item[:2])]


def _pictures(sample: Sample) -> list[Image.Image]:
    """Image, mask and overlay, each within SIDE x SIDE; the image alone where there is no mask."""
    try:
        image = read_image(sample.image)
        image.thumbnail((SIDE - 4, SIDE - 4))
        if sample.mask is None:
            return [image]
        levels = Image.fromarray(read_mask(sample.mask).astype(np.uint8) * 255)
    except AnoframeError:
        return []
    mask = levels.resize(image.size, Image.Resampling.BOX).point(lambda level: 255 * (level > 0))
    overlay = Image.composite(Image.blend(image, Image.new("RGB", image.size, _RED), 0.5), image, mask)
    return [image, mask.convert("RGB"), overlay]
