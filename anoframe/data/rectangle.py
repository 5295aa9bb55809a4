"""Choose the shape of the network's input from the shape of the training images: `data.keep_aspect = "rectangle"`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from anoframe.data.file_checks import THREADS
from anoframe.data.image_decoding import open_image, upright_size
from anoframe.errors import AnoframeError

STEP = 16  # pixels: sides are multiples of it, the stride of the deepest level that most methods use


def read_aspects(images: Iterable[Path]) -> list[float]:
    """Return height / width of image files, by their headers, after EXIF orientation.

    A file that cannot be read is left out: the check of the data says what is wrong with it.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        return [aspect for aspect in pool.map(_aspect, images) if aspect is not None]


def _aspect(path: Path) -> float | None:
    try:
        with open_image(path) as image:
            width, height = upright_size(image)
    except (AnoframeError, OSError):
        return None
    return height / width


def rectangle(aspects: Sequence[float], side: int) -> tuple[int, int]:
    """Return height and width with about the median of aspect ratios, height / width, and about `side` x `side` pixels.

    Both are multiples of 16, at least 32; a square side that is not a multiple of 16 stays as it is.

    >>> rectangle([2.5], 224), rectangle([2 / 3], 224), rectangle([1.02], 224), rectangle([1.0], 100), rectangle([], 64)
    ((352, 144), (176, 272), (224, 224), (100, 100), (64, 64))
    """
    root = math.sqrt(median(aspects)) if aspects else 1.0
    height, width = (max(2 * STEP, STEP * round(side * factor / STEP)) for factor in (root, 1 / root))
    return (side, side) if height == width else (height, width)
