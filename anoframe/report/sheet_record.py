"""Sheet of thumbnails of a category, read from a run folder."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anoframe.errors import AnoframeError
from anoframe.report.checked_reading import naming_file, path_inside
from anoframe.utils.files import read_json

THUMBNAIL_INDEX = "thumbnails.json"


@dataclass(frozen=True)
class Sheet:
    """Thumbnails of a category.

    Attributes:
        path: picture with `columns` pairs (image, heatmap) per row.
        columns: number of pairs per row.
        rows: number of rows.
        images: defect type and name of the image of each pair, in the order of the sheet.
    """

    path: Path
    columns: int
    rows: int
    images: tuple[tuple[str, str], ...]

    def source(self) -> str:
        """Return the picture as a `data:` address."""
        kind = "webp" if self.path.suffix == ".webp" else "jpeg"
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise AnoframeError(f"{self.path} cannot be read ({error.strerror}): test its category again") from error
        return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def read_sheet(folder: Path) -> Sheet | None:
    """Read the thumbnails of a category; None if there are none.

    Args:
        folder: `pictures/<category>/` of a run.

    Raises:
        AnoframeError: the index is damaged, or names a file outside the folder.
    """
    index = folder / THUMBNAIL_INDEX
    if not index.is_file():
        return None
    tree: Any = read_json(index)
    with naming_file(index):
        path = path_inside(folder, tree["file"], "picture")
        columns = tree["columns"]
        if type(columns) is not int or columns < 1:
            raise ValueError(f"it has {columns!r} columns")
        images = tuple((str(image["defect"]), str(image["name"])) for image in tree["images"])
        return Sheet(path, columns, -(-len(images) // columns), images) if images else None


def sheet_places(sheet: Sheet | None, images: Sequence[tuple[str, str]]) -> list[int]:
    """Return for each test image, given by defect type and name, its place in the sheet; -1 without a thumbnail."""
    places: dict[tuple[str, str], int] = {}
    for place, image in enumerate(() if sheet is None else sheet.images):
        places.setdefault(image, place)
    return [places.get(image, -1) for image in images]
