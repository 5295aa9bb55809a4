"""The pictures of a category as trackers show them: a row each, the strip cut into its parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

PARTS = ("image", "mask", "map", "outlines")
_GAP = 4  # white pixels between the parts of a strip


def cut(strip: Image.Image) -> dict[str, Image.Image]:
    """The square parts of a strip by name, left to right.

    Args:
        strip: `[H, 4 H + 3 gaps]`, as in `pictures/<category>/`.
    """
    side = strip.height
    lefts = [place * (side + _GAP) for place in range(len(PARTS))]
    return {name: strip.crop((left, 0, left + side, side)) for name, left in zip(PARTS, lefts, strict=True)}


def open_pictures(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Image.Image]]:
    """Each row of `pictures.json` with its strip, one at a time."""
    for row in rows:
        with Image.open(folder / row["file"]) as picture:
            yield row, picture.convert("RGB")
