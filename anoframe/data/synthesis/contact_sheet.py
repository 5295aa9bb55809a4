"""A picture of synthetic anomalies, to check a generator by eye: original, edited image and mask in rows."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from anoframe.data.dataset import Dataset
from anoframe.data.preprocessing import Preprocessing
from anoframe.data.synthesis.base import Context, Generator, Synthetic, item_rng
from anoframe.data.synthesis.sources import NormalImages
from anoframe.errors import AnoframeError

TITLE_HEIGHT = 16
_GAP = 2


def draw_synthetics(
    dataset: Dataset, category: str, generator: Generator, size: int, count: int, seed: int
) -> list[Synthetic]:
    """Generate `count` anomalies on training images that are spread evenly over the category.

    Args:
        dataset: with normal training images.
        category: one of the dataset.
        generator: makes the anomalies.
        size: side in pixels to which images are resized; all of the image is kept.
        count: number of anomalies; if there are fewer images, they are used several times.
        seed: of the random generators.

    Raises:
        AnoframeError: there is no normal training image, or the generator does not accept the images.
    """
    samples = [s for s in dataset.samples(category) if s.split == "train" and not s.is_defect]
    images = NormalImages(samples, Preprocessing(size, size, keep_aspect=False))
    results = []
    for number in range(count):
        index = number * max(1, len(images) // count) % len(images)
        context = Context(category, images, index)
        results.append(generator.generate(images[index], item_rng(seed, number, index), context))
    return results


def save_contact_sheet(rows: Sequence[tuple[str, Sequence[Synthetic]]], title: str, path: Path) -> None:
    """Write a PNG: for each category, a title and three rows, base images, edited images, and masks or soft labels.

    Args:
        rows: category and its anomalies.
        title: generator and parameters.
        path: of the file; its folder is created.
    """
    blocks = [_draw_block(f"{title}  {category}", results) for category, results in rows]
    sheet = Image.new("RGB", (max(block.width for block in blocks), sum(block.height for block in blocks)), "white")
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, format="PNG")


def _draw_block(title: str, results: Sequence[Synthetic]) -> Image.Image:
    height, width = results[0].mask.shape
    block = Image.new("RGB", (len(results) * (width + _GAP), TITLE_HEIGHT + 3 * (height + _GAP)), "white")
    ImageDraw.Draw(block).text((2, 2), title.encode("ascii", "replace").decode(), fill="black")
    for column, result in enumerate(results):
        label = result.mask if result.label is None else result.label
        levels = np.rint(255 * label.astype(float)).astype(np.uint8)
        for row, pixels in enumerate((result.base, result.image, levels)):
            place = (column * (width + _GAP), TITLE_HEIGHT + row * (height + _GAP))
            block.paste(Image.fromarray(pixels).convert("RGB"), place)
    return block


def parse_settings(words: Sequence[str]) -> dict[str, Any]:
    """Read `NAME=VALUE` words as arguments of a generator; a value is a Python literal, or else text.

    >>> parse_settings(["beta=[0, 0.2]", "texture=perlin", "rotate_mask=False"])
    {'beta': [0, 0.2], 'texture': 'perlin', 'rotate_mask': False}
    """
    settings: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not name or not equals or name in settings:
            problem = "is given twice" if name in settings else "is not NAME=VALUE"
            raise AnoframeError(f"--set: {word!r} {problem}; write for example --set texture=perlin")
        try:
            settings[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            settings[name] = text
    return settings
