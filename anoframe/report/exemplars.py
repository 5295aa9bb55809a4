"""Pictures of the exemplars of a class-incremental classifier: one strip per class in `pictures/exemplars/`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anoframe.data.labelled.base import LabelledImages
from anoframe.report.encoding import encode_png
from anoframe.report.run_record import EXEMPLAR_INDEX, EXEMPLARS
from anoframe.utils.files import file_name, write_atomic, write_json

_SIDE = 72  # pixels of a picture


def write_exemplars(folder: Path, images: LabelledImages, rows: list[int], count: int) -> list[dict[str, Any]]:
    """Write the first exemplars of each class as one strip, and their index.

    Args:
        folder: run folder.
        images: training images.
        rows: the exemplars.
        count: pictures per class.

    Returns:
        The index: `class`, `file`, `shown` and `images`, the number of exemplars of the class.
    """
    by_class: dict[str, list[int]] = {}
    for row in rows:
        by_class.setdefault(images.sample(row).category, []).append(row)
    index = []
    for number, (name, own) in enumerate(by_class.items()):
        shown = own[:count]
        if not shown:
            continue
        file = file_name(f"{number:03d}_{name}", ".png")
        write_atomic(folder / "pictures" / EXEMPLARS / file, _strip(images, shown))
        index.append({"class": name, "file": file, "shown": len(shown), "images": len(own)})
    write_json(folder / "pictures" / EXEMPLARS / EXEMPLAR_INDEX, index)
    return index


def _strip(images: LabelledImages, rows: list[int]) -> bytes:
    """Draw pictures side by side, as the encoder gets them."""
    strip = np.full((_SIDE, len(rows) * (_SIDE + 4) - 4, 3), 255, np.uint8)
    for place, row in enumerate(rows):
        picture = Image.fromarray(images.pixels(row).permute(1, 2, 0).numpy()).resize((_SIDE, _SIDE))
        left = place * (_SIDE + 4)
        strip[:, left : left + _SIDE] = np.asarray(picture)
    return encode_png(Image.fromarray(strip))
