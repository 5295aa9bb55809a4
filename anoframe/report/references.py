"""Pictures of the training images of a few-shot run: files in `pictures/<category>/`, and thumbnails in the report."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from anoframe.data.cached_reader import Reader
from anoframe.errors import AnoframeError
from anoframe.report.category_record import REFERENCE_INDEX, Reference
from anoframe.report.encoding import encode_png
from anoframe.types import Sample
from anoframe.utils.files import write_atomic, write_json

MOST = 32  # pictures per category; split.json lists every image
_THUMBNAIL = 160  # pixels, longest side in the report


@dataclass(frozen=True)
class Thumbnail:
    """A reference in the report: `source` is a `data:` address, and the size is in pixels."""

    name: str
    source: str
    width: int
    height: int


def write_references(folder: Path, category: str, samples: Sequence[Sample], reader: Reader) -> list[dict[str, Any]]:
    """Write the first `MOST` training images, as the detector got them, and their index `references.json`.

    Args:
        folder: run folder.
        samples: training images of the category.
        reader: reads them.

    Returns:
        The index: `file` and `name` of each picture.

    Raises:
        AnoframeError: an image cannot be read, or a file cannot be written.
    """
    pictures = folder / "pictures" / category
    index = []
    for number, sample in enumerate(samples[:MOST]):
        image = reader.sample(sample).pixels.permute(1, 2, 0).numpy()
        file = f"reference_{number:03d}.png"
        write_atomic(pictures / file, encode_png(Image.fromarray(image)))
        index.append({"file": file, "name": sample.name})
    write_json(pictures / REFERENCE_INDEX, index)
    return index


def thumbnails(references: Sequence[Reference]) -> list[Thumbnail]:
    """Read references and shrink them for the report.

    Raises:
        AnoframeError: a file is not a picture.
    """
    return [Thumbnail(reference.name, *_encode(reference.path)) for reference in references]


def _encode(path: Path) -> tuple[str, int, int]:
    try:
        with Image.open(path) as file:
            picture = file.convert("RGB")
    except (OSError, Image.DecompressionBombError, ValueError) as error:
        raise AnoframeError(f"{path} is not a picture ({error}): restore it, or run its category again") from error
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}", *picture.size
