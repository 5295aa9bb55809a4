"""Pictures of a category for trackers: read the strips of `pictures/<category>/` and cut them into parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

PARTS = ("image", "mask", "map", "outlines")
_GAP = 4  # white pixels between the parts of a strip


def cut_strip(strip: Image.Image) -> dict[str, Image.Image]:
    """Cut a strip into its square parts: name -> part, from left to right.

    Args:
        strip: `[H, 4 H + 3 gaps]`; a picture of another shape, from a method without maps, is a single part `image`.
    """
    side = strip.height
    if strip.width != len(PARTS) * side + (len(PARTS) - 1) * _GAP:
        return {"image": strip}
    lefts = [index * (side + _GAP) for index in range(len(PARTS))]
    return {name: strip.crop((left, 0, left + side, side)) for name, left in zip(PARTS, lefts, strict=True)}


def open_pictures(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Image.Image]]:
    """Yield each row of `pictures.json` with its strip, one at a time."""
    for row in rows:
        with Image.open(folder / row["file"]) as picture:
            yield row, picture.convert("RGB")
