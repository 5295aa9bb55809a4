"""Choose the shape of the network's input from the shape of the training images: `data.keep_aspect = "rectangle"`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from anoframe.data.file_checks import THREADS
from anoframe.data.image_decoding import open_image, upright_size
from anoframe.errors import AnoframeError

STEP = 16  # pixels: sides are multiples of it, the stride of the deepest level that most methods use


def median_aspect(images: Iterable[Path]) -> float:
    """Return the median of height / width over image files, by their headers, after EXIF orientation.

    Raises:
        AnoframeError: there is no image, or the header of one cannot be read.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        aspects = list(pool.map(_aspect, images))
    if not aspects:
        raise AnoframeError(
            'data.keep_aspect "rectangle" needs training images to choose a shape from: set data.resize and data.crop '
            "to a pair (height, width)"
        )
    return median(aspects)


def _aspect(path: Path) -> float:
    with open_image(path) as image:
        width, height = upright_size(image)
    return height / width


def rectangle(aspect: float, side: int) -> tuple[int, int]:
    """Return height and width with about this aspect ratio, height / width, and about `side` x `side` pixels.

    Both are multiples of 16, at least 32; a square side that is not a multiple of 16 stays as it is.

    >>> rectangle(2.5, 224), rectangle(2 / 3, 224), rectangle(1.02, 224), rectangle(1.0, 100)
    ((352, 144), (176, 272), (224, 224), (100, 100))
    """
    height, width = (max(2 * STEP, STEP * round(side * root / STEP)) for root in (math.sqrt(aspect), aspect**-0.5))
    return (side, side) if height == width else (height, width)
