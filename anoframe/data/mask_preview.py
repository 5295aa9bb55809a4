"""A picture of masks laid over their images, to check a dataset by eye."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from anoframe.data.dataset import Dataset
from anoframe.data.image_decoding import read_image
from anoframe.data.masks import DEFAULT_MASKS, MaskSettings, mask_orientation, read_mask
from anoframe.errors import AnoframeError
from anoframe.types import Sample

SIDE = 160  # maximum width and height of one picture, in pixels
LABEL_HEIGHT = 14
SAMPLES_PER_CATEGORY = 4
_RED = (230, 30, 30)


def save_mask_preview(
    dataset: Dataset, categories: Sequence[str], path: Path, masks: MaskSettings = DEFAULT_MASKS
) -> None:
    """Write a PNG with one row per category: up to four defects, different types first, as image | mask | overlay.

    Files that cannot be read are left out; `anoframe.data.validation` reports them.
    """
    rows = [_draw_row(dataset, category, masks) for category in categories]
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, format="PNG")


def _draw_row(dataset: Dataset, category: str, masks: MaskSettings) -> Image.Image:
    row = Image.new("RGB", (SAMPLES_PER_CATEGORY * 3 * SIDE, SIDE + LABEL_HEIGHT), "white")
    for number, sample in enumerate(_select_samples(dataset.samples(category))[:SAMPLES_PER_CATEGORY]):
        left = number * 3 * SIDE
        label = f"{category}: {sample.defect}/{sample.image.name}"
        ImageDraw.Draw(row).text((left + 2, 1), label.encode("ascii", "replace").decode(), fill="black")
        for column, picture in enumerate(_draw_sample(sample, masks)):
            row.paste(picture, (left + column * SIDE, LABEL_HEIGHT))
    return row


def _select_samples(samples: list[Sample]) -> list[Sample]:
    """Order the test defects: the first of each type, then the second of each; without defects, the test images."""
    test = [sample for sample in samples if sample.split == "test"]
    defects = [sample for sample in test if sample.is_defect] or test
    type_counts: Counter[str] = Counter()
    ordered = []
    for position, sample in enumerate(defects):
        ordered.append((type_counts[sample.defect], position, sample))
        type_counts[sample.defect] += 1
    return [sample for _, _, sample in sorted(ordered, key=lambda item: item[:2])]


def _draw_sample(sample: Sample, masks: MaskSettings) -> list[Image.Image]:
    """Draw image, mask and overlay, each within SIDE x SIDE; only the image of a sample without a mask."""
    try:
        image = read_image(sample.image)
        image.thumbnail((SIDE - 4, SIDE - 4))
        if sample.mask is None:
            return [image]
        mask = read_mask(sample.mask, mask_orientation(sample.image, masks))
        levels = Image.fromarray(mask.astype(np.uint8) * 255)
    except AnoframeError:
        return []
    marked = levels.resize(image.size, Image.Resampling.BOX).point(lambda level: 255 * (level > 0))
    overlay = Image.composite(Image.blend(image, Image.new("RGB", image.size, _RED), 0.5), image, marked)
    return [image, marked.convert("RGB"), overlay]
