"""Pictures of a category for trackers: read the strips of `pictures/<category>/` and cut them into parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

PARTS = ("image", "mask", "map", "outlines")
_GAP = 4  # white pixels between the parts of a strip


def cut_strip(strip: Image.Image) -> dict[str, Image.Image]:
    """Cut a strip into its parts: name -> part, from left to right.

    Args:
        strip: four parts `[H, W]` and three gaps: square ones, or with the entry `panels` in the picture's `info`;
            another picture, from a method without maps, is a single part `image`.
    """
    side, gaps = strip.height, (len(PARTS) - 1) * _GAP
    if strip.width != len(PARTS) * side + gaps and strip.info.get("panels") != str(len(PARTS)):
        return {"image": strip}
    width = (strip.width - gaps) // len(PARTS)
    lefts = [index * (width + _GAP) for index in range(len(PARTS))]
    return {name: strip.crop((left, 0, left + width, side)) for name, left in zip(PARTS, lefts, strict=True)}


def open_pictures(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Image.Image]]:
    """Yield each row of `pictures.json` with its strip, one at a time."""
    for row in rows:
        with Image.open(folder / row["file"]) as picture:
            yield row, picture.convert("RGB")
