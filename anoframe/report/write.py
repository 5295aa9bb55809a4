"""Pictures and report of a run, written into its folder."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from anoframe.data.cached_reader import Reader
from anoframe.evaluation.decision import Threshold
from anoframe.evaluation.predictions import CategoryPredictions
from anoframe.report.page import report_page
from anoframe.report.pictures import category_scale, choose_images, strip
from anoframe.report.run_record import PICTURE_INDEX, read_run
from anoframe.utils.files import write_atomic, write_json


def write_category_pictures(
    folder: Path,
    category: str,
    predictions: CategoryPredictions,
    reader: Reader,
    count: int,
    threshold: Threshold | None = None,
) -> list[dict[str, Any]]:
    """Write `pictures/<category>/*.png` and their index `pictures.json`.

    Args:
        folder: run folder.
        predictions: predictions for the test images.
        reader: reads the test images as the detector got them.
        count: largest number of pictures.
        threshold: thresholds of the detector, if it has any.

    Returns:
        The index: file, kind, defect type, name and score of each picture.
    """
    scale = category_scale(predictions, threshold)
    pictures = folder / "pictures" / category
    index: list[dict[str, Any]] = []
    for place, (kind, i) in enumerate(choose_images(predictions.labels, predictions.scores, count)):
        sample = predictions.samples[i]
        image = reader.image(sample.image).pixels.permute(1, 2, 0).numpy()
        picture = strip(image, predictions.masks[i], predictions.maps[i], scale)
        file = f"{place:03d}_{kind}_{sample.defect}_{sample.image.stem}.png"
        write_atomic(pictures / file, _png(picture))
        facts = {"kind": kind, "defect": sample.defect, "name": sample.name, "score": float(predictions.scores[i])}
        index.append({"file": file, **facts})
    write_json(pictures / PICTURE_INDEX, index)
    return index


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def write_report(folder: str | Path) -> Path:
    """Write `report.html` from the files of a run folder, and return its path.

    Runs of earlier versions and unfinished runs get a report as well; it names what is missing.

    Raises:
        AnoframeError: if it is not a run folder, a file is damaged, or a name points outside its folder.
    """
    run = read_run(folder)
    path = run.folder / "report.html"
    write_atomic(path, report_page(run))
    return path
