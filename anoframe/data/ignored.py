"""Ignored regions: pixels of a category that count neither in scores nor in metrics, thresholds and boxes.

A region is a mask or polygons, for all photographs of a category. It does not change what a detector sees.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from anoframe.data.image_decoding import is_image_file
from anoframe.data.masks import Mask, read_mask
from anoframe.data.preprocessing import Preprocessing
from anoframe.errors import AnoframeError, suggest
from anoframe.utils.files import digest, read_json
from anoframe.utils.paths import expand_path
from anoframe.utils.type_check import matches_type

Polygon = tuple[tuple[float, float], ...]  # corners (x, y), as shares of the width and the height of the photograph
_FORMAT = (
    "a JSON file holds polygons, each a list of three or more corners [x, y] with x and y from 0 to 1, shares of the "
    "width and the height"
)


@dataclass(frozen=True)
class IgnoredRegion:
    """The ignored pixels of a category, for photographs of any size.

    Attributes:
        polygons: corners as shares of width and height of the upright photograph.
        png: a black and white picture, stretched to the photograph; white is ignored. Empty: no picture.
    """

    polygons: tuple[Polygon, ...] = ()
    png: bytes = b""

    def draw(self, width: int, height: int) -> Mask:
        """Return which pixels [height, width] of an upright photograph are ignored."""
        canvas = Image.new("L", (width, height))
        if self.png:
            with Image.open(io.BytesIO(self.png)) as picture:
                canvas = picture.convert("L").resize((width, height), Image.Resampling.NEAREST)
        draw = ImageDraw.Draw(canvas)
        for polygon in self.polygons:  # Pillow's pixel centres are whole numbers
            draw.polygon([(x * width - 0.5, y * height - 0.5) for x, y in polygon], fill=255)
        return np.asarray(canvas) > 0

    def preprocessed(self, width: int, height: int, preprocessing: Preprocessing) -> Mask:
        """Return which pixels of the preprocessed image [H, W] are ignored: where the region covers any part."""
        levels = Image.fromarray(self.draw(width, height).astype(np.uint8) * 255)
        return np.asarray(preprocessing.resize_and_crop(levels, edge=False)) > 0

    def to_json(self) -> dict[str, Any]:
        """Return the region as JSON types."""
        tree: dict[str, Any] = {"polygons": [[list(corner) for corner in polygon] for polygon in self.polygons]}
        return tree | ({"png": base64.b64encode(self.png).decode()} if self.png else {})

    @classmethod
    def from_json(cls, tree: Mapping[str, Any], where: str) -> IgnoredRegion:
        """Read a region from `to_json`; raises AnoframeError that begins with `where`."""
        try:
            png = base64.b64decode(tree.get("png", ""), validate=True)
        except (TypeError, ValueError) as error:
            raise AnoframeError(f"{where}: its ignored region is damaged ({error}); fit the detector again") from error
        return cls(_polygons(tree.get("polygons", []), where), png)

    @property
    def hash(self) -> str:
        """A hash of the region, for the provenance."""
        return digest(json.dumps(self.to_json(), sort_keys=True).encode())[:32]


def read_ignored(path: str | None, categories: Sequence[str]) -> dict[str, IgnoredRegion]:
    """Read the ignored regions of a run: category -> region; categories without one are left out.

    Args:
        path: of an image file, a mask for every category; of a JSON file, category -> polygons; or of a folder with
            `<category>.png` (or another image) or `<category>.json` (polygons). None: nothing is ignored.
        categories: of the run.

    Raises:
        AnoframeError: there is no such file, it cannot be read, or it has no region for any of the categories.
    """
    if path is None:
        return {}
    source = expand_path(path, "data.ignore")
    if source.is_dir():
        regions = {name: region for name in categories if (region := _from_folder(source, name))}
        names = sorted(file.stem for file in source.iterdir())
    elif source.suffix.lower() == ".json":
        tree = read_json(source)
        if not matches_type(tree, dict[str, list[Any]]):
            raise AnoframeError(f"{source}: it holds category -> list of polygons; {_FORMAT}")
        regions = {name: _region(tree[name], f"{source}: {name}") for name in categories if name in tree}
        names = sorted(tree)
    else:
        regions = dict.fromkeys(categories, _from_image(source))
        names = []
    if not regions:
        raise AnoframeError(
            f"data.ignore {source} has no region for {', '.join(categories)}: {suggest(categories[0], names)}"
        )
    return regions


def _from_folder(folder: Path, category: str) -> IgnoredRegion | None:
    files = [file for file in sorted(folder.iterdir()) if file.stem == category]
    files = [file for file in files if is_image_file(file) or file.suffix.lower() == ".json"]
    if len(files) > 1:
        raise AnoframeError(f"{folder} has {files[0].name} and {files[1].name}: keep one region per category")
    if not files:
        return None
    if files[0].suffix.lower() == ".json":
        return _region(read_json(files[0]), str(files[0]))
    return _from_image(files[0])


def _from_image(path: Path) -> IgnoredRegion:
    mask = read_mask(path)
    if not mask.any():
        raise AnoframeError(f"{path}: marks no pixel to ignore; draw the region in white, or remove the file")
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return IgnoredRegion(png=buffer.getvalue())


def _region(tree: Any, where: str) -> IgnoredRegion:
    polygons = _polygons(tree, where)
    if not polygons:
        raise AnoframeError(f"{where}: no polygon; {_FORMAT}")
    return IgnoredRegion(polygons)


def _polygons(tree: Any, where: str) -> tuple[Polygon, ...]:
    if not matches_type(tree, list[list[Any]]):
        raise AnoframeError(f"{where}: {_FORMAT}, got {tree!r}")
    polygons = []
    for polygon in tree:
        are_corners = all(matches_type(corner, list[float]) and len(corner) == 2 for corner in polygon)
        if len(polygon) < 3 or not are_corners or not all(0 <= share <= 1 for corner in polygon for share in corner):
            raise AnoframeError(f"{where}: {_FORMAT}, got {polygon!r}")
        polygons.append(tuple((float(x), float(y)) for x, y in polygon))
    return tuple(polygons)
