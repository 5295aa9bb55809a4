"""Pictures and report of a run, written into its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from anoframe.data.cached_reader import Reader
from anoframe.errors import OutputError
from anoframe.evaluation.decision import Threshold
from anoframe.evaluation.predictions import CategoryPredictions
from anoframe.report.category_record import PICTURE_INDEX
from anoframe.report.encoding import encode_png
from anoframe.report.page import report_page
from anoframe.report.pictures import PANELS, category_scale, choose_images, strip
from anoframe.report.run_record import read_run
from anoframe.utils.files import file_name, write_atomic, write_json
from anoframe.utils.parallel import map_in_threads


def write_category_pictures(
    folder: Path,
    category: str,
    predictions: CategoryPredictions,
    reader: Reader,
    count: int,
    threshold: Threshold | None = None,
    warn: Callable[..., object] | None = None,
) -> list[dict[str, Any]]:
    """Write `pictures/<category>/*.png` and their index `pictures.json`.

    A picture that cannot be made is left out.

    Args:
        folder: run folder.
        predictions: predictions for the test images.
        reader: reads the test images as the detector got them.
        count: largest number of pictures.
        threshold: thresholds of the detector, if it has any.
        warn: called with `text=` if pictures are left out: how many, and the first reason.

    Returns:
        The index: file, kind, defect type, name and score of each picture.
    """
    chosen = choose_images(predictions.labels, predictions.scores, count)
    if not chosen:  # there is no scale without test images
        write_json(folder / "pictures" / category / PICTURE_INDEX, [])
        return []
    scale = category_scale(predictions, threshold)
    pictures = folder / "pictures" / category

    def draw(place: int) -> dict[str, Any] | Exception:
        kind, i = chosen[place]
        sample = predictions.samples[i]
        try:
            image = reader.image(sample.image).pixels.permute(1, 2, 0).numpy()
            anomaly_map = None if predictions.maps is None else predictions.maps[i]
            picture = _png(strip(image, predictions.masks[i], anomaly_map, scale))
            file = _write_picture(pictures, f"{place:03d}_{kind}", f"{sample.defect}_{sample.image.stem}", picture)
        except Exception as error:  # no picture is worth a result
            return error
        facts = {"kind": kind, "defect": sample.defect, "name": sample.name, "score": float(predictions.scores[i])}
        return {"file": file, **facts}

    drawn = map_in_threads(draw, range(len(chosen)))
    index = [row for row in drawn if not isinstance(row, Exception)]
    errors = [error for error in drawn if isinstance(error, Exception)]
    write_json(pictures / PICTURE_INDEX, index)
    if errors and warn:
        warn(text=f"{category}: {len(errors)} of {len(chosen)} pictures are left out: {errors[0]}")
    return index


def _write_picture(folder: Path, place: str, name: str, picture: bytes) -> str:
    """Write a picture and return its file name, which is `place` alone where the file system refuses a longer one."""
    file = file_name(f"{place}_{name}", ".png")
    try:
        write_atomic(folder / file, picture)
    except OutputError:
        file = f"{place}.png"
        write_atomic(folder / file, picture)
    return file


def _png(picture: Image.Image) -> bytes:
    about = PngInfo()
    if PANELS in picture.info:
        about.add_text(PANELS, picture.info[PANELS])
    return encode_png(picture, about)


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
