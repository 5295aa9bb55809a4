"""Pictures and page of a run, written into its folder."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from anoframe.data.reader import Reader
from anoframe.evaluation.decision import Threshold
from anoframe.evaluation.predictions import CategoryPredictions
from anoframe.report.page import report_page
from anoframe.report.pictures import choose, scale_of, strip
from anoframe.report.run_record import PICTURE_INDEX, read_run
from anoframe.utils.files import write_atomic, write_json


def write_category_pictures(
    folder: Path,
    category: str,
    found: CategoryPredictions,
    reader: Reader,
    count: int,
    threshold: Threshold | None = None,
) -> list[dict[str, Any]]:
    """`pictures/<category>/*.png`, and `pictures.json` beside them, which says what each shows; returns that."""
    scale = scale_of(found, threshold)
    home = folder / "pictures" / category
    index: list[dict[str, Any]] = []
    for place, (kind, i) in enumerate(choose(found.labels, found.scores, count)):
        sample = found.samples[i]
        image = reader.image(sample.image).pixels.permute(1, 2, 0).numpy()
        picture = strip(image, found.masks[i], found.maps[i], scale)
        file = f"{place:03d}_{kind}_{sample.defect}_{sample.image.stem}.png"
        write_atomic(home / file, _png(picture))
        facts = {"kind": kind, "defect": sample.defect, "name": sample.name, "score": float(found.scores[i])}
        index.append({"file": file, **facts})
    write_json(home / PICTURE_INDEX, index)
    return index


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def write_report(folder: str | Path) -> Path:
    """`report.html` from what the run folder holds, and from nothing else.

    A run of an earlier version, or one that is not finished, has a page too: it says what is not there.

    Raises:
        AnoframeError: no run folder, a damaged file in it, or a name in it that leads out of it.
    """
    run = read_run(folder)
    path = run.folder / "report.html"
    write_atomic(path, report_page(run))
    return path
