"""Small pictures of all test images of a category, in one file: a sheet of image and heatmap side by side.

The report shows every test image. One sheet per category, of a bounded number of pixels, keeps it small.
"""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anoframe.data.cached_reader import Reader
from anoframe.errors import AnoframeError
from anoframe.evaluation.decision import Threshold, is_defect
from anoframe.evaluation.predictions import CategoryPredictions
from anoframe.report.encoding import encode_for_page
from anoframe.report.pictures import Scale, category_scale, heatmap, outlined
from anoframe.report.sheet_record import THUMBNAIL_INDEX
from anoframe.utils.files import write_atomic, write_json
from anoframe.utils.parallel import map_in_threads

MOST = 1000  # images with a thumbnail; the others are listed by name
_COLUMNS = 10  # of pairs, in a sheet
_MOST_PIXELS = 3_000_000  # of a sheet: about 300 KB
_LARGEST, _SMALLEST = 128, 32  # pixels, side of a thumbnail


def write_thumbnails(
    folder: Path,
    category: str,
    predictions: CategoryPredictions,
    reader: Reader,
    threshold: Threshold | None = None,
    most: int = MOST,
) -> None:
    """Write `pictures/<category>/thumbnails.webp` and its index; without test images neither.

    An image that cannot be read is left out.

    Args:
        folder: run folder.
        predictions: of the test images.
        reader: reads the test images as the detector got them.
        threshold: thresholds of the detector, if it has any.
        most: largest number of thumbnails; see `choose_thumbnails`.
    """
    chosen = choose_thumbnails(predictions, threshold, most)
    if not chosen:
        return
    scale = category_scale(predictions, threshold)
    side = thumbnail_side(len(chosen))

    def draw(i: int) -> Image.Image | None:
        try:
            pixels = reader.image(predictions.samples[i].image).pixels.permute(1, 2, 0).numpy()
        except (AnoframeError, OSError, MemoryError):
            return None
        return _pair(pixels, predictions, i, scale, side)

    drawn = zip(chosen, map_in_threads(draw, chosen), strict=True)
    pairs = [(i, pair) for i, pair in drawn if pair is not None]
    columns = min(_COLUMNS, max(len(pairs), 1))
    rows = -(-len(pairs) // columns)
    sheet = Image.new("RGB", (columns * 2 * side, max(rows, 1) * side))
    for place, (_, pair) in enumerate(pairs):
        sheet.paste(pair, (place % columns * 2 * side, place // columns * side))
    kind, data = encode_for_page(sheet, quality=75)
    file = f"thumbnails.{'webp' if kind == 'webp' else 'jpg'}"
    write_atomic(folder / "pictures" / category / file, data)
    shown = [predictions.samples[i] for i, _ in pairs]
    images = [{"name": sample.name, "defect": sample.defect} for sample in shown]
    index = {"file": file, "columns": columns, "images": images}
    write_json(folder / "pictures" / category / THUMBNAIL_INDEX, index)


def thumbnail_side(count: int) -> int:
    """Return the side of each of a number of thumbnails in pixels, so that their sheet is of bounded size.

    >>> thumbnail_side(83), thumbnail_side(1000)
    (128, 38)
    """
    fitting = int((_MOST_PIXELS / (2 * max(count, 1))) ** 0.5)
    return min(max(fitting, _SMALLEST), _LARGEST)


def choose_thumbnails(predictions: CategoryPredictions, threshold: Threshold | None, most: int) -> list[int]:
    """Choose the images with a thumbnail: all if they are few; else wrong decisions first, then each type in turn.

    Returns:
        Places in the list of test images, rising.
    """
    count = len(predictions.samples)
    if count <= most:
        return list(range(count))
    wrong: list[int] = []
    if threshold is not None:
        flagged = is_defect(predictions.scores, threshold.image)
        wrong = np.flatnonzero(flagged != predictions.labels).tolist()
    groups: dict[str, list[int]] = {}
    for i, sample in enumerate(predictions.samples):
        groups.setdefault(sample.defect, []).append(i)
    in_turn = (i for round_ in zip_longest(*groups.values()) for i in round_ if i is not None)
    return sorted(list(dict.fromkeys([*wrong, *in_turn]))[:most])


def _pair(pixels: NDArray[np.uint8], predictions: CategoryPredictions, i: int, scale: Scale, side: int) -> Image.Image:
    """Join a small image, with the outlines of ground truth and prediction, and its heatmap: `[side, 2 * side]`."""
    maps = predictions.maps
    anomaly_map = None if maps is None else maps[i]
    left = Image.fromarray(outlined(pixels, predictions.masks[i], anomaly_map, scale))
    right = left if anomaly_map is None else Image.fromarray(heatmap(anomaly_map, scale))
    pair = Image.new("RGB", (2 * side, side))
    for place, panel in enumerate((left, right)):
        panel = panel.resize(fitting_size(panel.size, side), Image.Resampling.LANCZOS)
        pair.paste(panel, (place * side + (side - panel.width) // 2, (side - panel.height) // 2))
    return pair


def fitting_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return width and height of a picture that fits into a square.

    >>> fitting_size((400, 200), 100)
    (100, 50)
    """
    longest = max(size)
    return max(1, round(size[0] * side / longest)), max(1, round(size[1] * side / longest))
