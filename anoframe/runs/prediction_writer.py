"""Files of a prediction: scores, regions, maps, overlays and the gallery, written image by image."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from anoframe.data.listing import escape_name
from anoframe.errors import AnoframeError
from anoframe.evaluation.decision import is_defect
from anoframe.evaluation.regions import Region
from anoframe.report.pictures import Scale
from anoframe.report.predictions_page import PAGE, remove_predictions_page, write_predictions_page
from anoframe.runs.original_frame import PhotographPrediction
from anoframe.runs.prediction_inputs import OUTPUTS, SCORES
from anoframe.training.checkpoint import Checkpoint
from anoframe.utils.files import bounded_name, digest, write_atomic, write_error

_COLUMNS = ("file", "score", "decision", "threshold")
_REGIONS = "regions.csv"
_REGION_COLUMNS = ("file", "region", *(field.name for field in fields(Region)))
_LARGE_MAPS = 10e9  # bytes of all maps together, from which a remark names the smaller ways
_IN_WORK = ".drawing.jsonl"  # the map and overlay that are being written: a kill leaves them without a line of scores
_MAX_NAME_BYTES = 240  # of a map or overlay; file systems allow 255 with the suffix
_MAX_PATH_BYTES = 3000  # of a map or overlay below its folder; Linux allows 4096 with the folder


@dataclass
class Predicted:
    """Summary of what `predict` wrote.

    Attributes:
        folder: folder of the files.
        images: number of scored images.
        defects: number of images with a score at or above the threshold; None if the detector has no threshold.
        bad: file -> why it could not be scored.
        not_drawn: file -> why its map or overlay could not be written; its score is written.
        remarks: sentences about what the input has besides images.
        notes: sentences about the detector that stand beside its results, for example on random weights.
    """

    folder: Path
    images: int = 0
    defects: int | None = None
    bad: dict[str, str] = field(default_factory=dict)
    not_drawn: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class PredictionWriter:
    """Writes predictions one by one: each appends a line to both score files."""

    def __init__(
        self, folder: Path, trained: Checkpoint, category: str, maps: str, overlays: bool, overwrite: bool
    ) -> None:
        self.category = category
        self.threshold = trained.thresholds.get(category)
        self.summary = Predicted(folder, defects=None if self.threshold is None else 0)
        self._preprocessing, self._ignored = trained.preprocessing, trained.ignored.get(category)
        self.num_files = 0
        self._maps, self._overlays = maps, overlays
        self._csv, self._lines, self._regions = folder / "scores.csv", folder / SCORES, folder / _REGIONS
        if self._csv.exists() or self._lines.exists():
            if not overwrite:
                raise AnoframeError(f"{folder} has earlier predictions: choose another --output, or --overwrite")
            remove_predictions_page(folder)
            _remove_drawings(folder)
        write_atomic(self._csv, _csv_line(_COLUMNS))
        write_atomic(self._lines, "")
        write_atomic(self._regions, _csv_line(_REGION_COLUMNS))

    def write_prediction(self, name: str, path: Path, score: float, anomaly_map: np.ndarray | None) -> None:
        """Write the score, regions, map and overlay of an image; if one of the last three fails, the score is written.

        Args:
            name: path of the file relative to the source.
            path: of the file.
            anomaly_map: `[H, W]`; None for a method that scores images only: only the score is written.
        """
        self.summary.images += 1
        defect = None if self.threshold is None else bool(is_defect(score, self.threshold.image))
        self.summary.defects = None if self.summary.defects is None else self.summary.defects + bool(defect)
        entry: dict[str, Any] = {"file": escape_name(name), "score": score, "defect": defect}
        if self.threshold:
            entry["threshold"] = self.threshold.image
        drawings: list[Callable[[PhotographPrediction], dict[str, Any]]] = []
        if anomaly_map is not None:
            self._announce(name)
            drawings = [self._find_regions, partial(self._write_map, name), partial(self._write_overlay, name)]
        photograph: PhotographPrediction | None = None
        for draw in drawings:
            try:
                if photograph is None:
                    assert anomaly_map is not None
                    photograph = PhotographPrediction.of_file(path, self._preprocessing, anomaly_map, self._ignored)
                entry |= draw(photograph)
            except Exception as error:  # a full disk, a long name, a drawing library: nothing is worth the score
                entry["warning"] = escape_name(str(error) or type(error).__name__)
                self.summary.not_drawn[entry["file"]] = entry["warning"]
        self._append_regions(entry)
        decision = "" if defect is None else "defect" if defect else "good"
        self._append(
            entry, [entry["file"], repr(score), decision, repr(self.threshold.image) if self.threshold else ""]
        )

    def close(self) -> None:
        """Remove what is only needed during the prediction."""
        with suppress(OSError):
            (self.summary.folder / _IN_WORK).unlink()

    def write_page(self, about: str) -> None:
        """Write the gallery of all predictions; the scores are complete without it."""
        try:
            write_predictions_page(self.summary.folder, about)
        except Exception as error:  # no gallery is worth the scores
            self.summary.not_drawn[PAGE] = escape_name(str(error) or type(error).__name__)

    def _announce(self, name: str) -> None:
        """Write which drawings come next, so that after a kill `--overwrite` removes them as well."""
        files = {} if self._maps == "none" else {"map": self._map_file(name)}
        files |= {"overlay": _overlay_file(name)} if self._overlays else {}
        with suppress(OSError):
            (self.summary.folder / _IN_WORK).write_text(json.dumps(files), encoding="utf-8")

    def write_error(self, name: str, reason: str) -> None:
        """Write why a file could not be scored."""
        name = escape_name(name)
        self.summary.bad[name] = reason
        self._append({"file": name, "error": reason}, [name, "", "not read", ""])

    def _append(self, entry: dict[str, Any], row: Sequence[str]) -> None:
        try:
            with self._lines.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            with self._csv.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(_csv_line(row))
        except OSError as error:
            raise write_error(self.summary.folder, error) from error

    def _find_regions(self, photograph: PhotographPrediction) -> dict[str, Any]:
        """Return size, orientation and regions of a photograph, entries for `scores.jsonl`."""
        entry = photograph.facts()
        if self.threshold is None or self.threshold.pixel is None:
            return entry
        regions = photograph.regions(self.threshold.pixel)
        return entry | {
            "pixel_threshold": self.threshold.pixel,
            "regions": [region.to_json() for region in regions],
        }

    def _append_regions(self, entry: Mapping[str, Any]) -> None:
        """Append the regions of an image to `regions.csv`."""
        rows = [(entry["file"], number, *each.values()) for number, each in enumerate(entry.get("regions", ()), 1)]
        try:
            with self._regions.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(_csv_line([str(cell) for cell in row]) for row in rows)
        except OSError as error:
            raise write_error(self.summary.folder, error) from error

    def _write_map(self, name: str, photograph: PhotographPrediction) -> dict[str, Any]:
        """Write a map and return its entries for `scores.jsonl`."""
        if self._maps == "none":
            return {}
        file, buffer = self._map_file(name), io.BytesIO()
        if self._maps == "png":
            picture, low, high = photograph.map_picture()
            picture.save(buffer, "PNG")
            write_atomic(self.summary.folder / file, buffer.getvalue())
            return {"map": file, "map_low": low, "map_high": high}
        if self._maps == "frame":
            np.save(buffer, photograph.anomaly_map)
        else:
            self._remark_size(photograph)
            buffer.write(photograph.map_file())
        write_atomic(self.summary.folder / file, buffer.getvalue())
        return {"map": file}

    def _remark_size(self, photograph: PhotographPrediction) -> None:
        """Remark once if the maps of all photographs will be large, judged by the first."""
        height, width = photograph.frame.size
        size = 4 * height * width * self.num_files
        if self.summary.images == 1 and size > _LARGE_MAPS:
            self.summary.remarks.append(
                f"maps at the size of the photographs take about {size / 1e9:,.0f} GB: --maps png takes less, and "
                "--maps frame, at the size of the network's image, least"
            )

    def _map_file(self, name: str) -> str:
        return f"maps/{_drawing_name(name)}.{'png' if self._maps == 'png' else 'npy'}"

    def _write_overlay(self, name: str, photograph: PhotographPrediction) -> dict[str, Any]:
        """Write an overlay and return its entry for `scores.jsonl`."""
        if not self._overlays:
            return {}
        file = _overlay_file(name)
        picture = _jpeg(photograph.overlay(self._scale(photograph.anomaly_map)), photograph.exif())
        write_atomic(self.summary.folder / file, picture)
        return {"overlay": file}

    def _scale(self, anomaly_map: np.ndarray) -> Scale:
        """Return the colours; without a threshold they span the range of this map, and nothing is outlined."""
        limit = self.threshold.pixel if self.threshold else None
        if limit is not None:  # in the middle of the colours, so that pictures can be compared
            return Scale(0.0, 2 * limit, limit)
        return Scale(float(anomaly_map.min()), float(anomaly_map.max()), np.inf)


# ------------------------------------------------------------------------------------------------ names and removal


def _overlay_file(name: str) -> str:
    return f"overlays/{_drawing_name(name)}.jpg"


def _drawing_name(name: str) -> str:
    """Return the path of a map or overlay, without suffix, below its folder: that of the image, shortened if long."""
    short = "/".join(bounded_name(part, _MAX_NAME_BYTES) for part in name.split("/"))
    if len(short.encode()) <= _MAX_PATH_BYTES:
        return short
    return f"{digest(os.fsencode(name))[:16]}/{bounded_name(short.rpartition('/')[2])}"


def _remove_drawings(folder: Path) -> None:
    """Remove the maps and overlays that the prediction in a folder lists, and the folders that this leaves empty."""
    for file in chain(_listed_drawings(folder / SCORES), _listed_drawings(folder / _IN_WORK)):
        path = folder / file
        if path.parent.resolve().is_relative_to(folder.resolve()):  # not through a link to another place
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise write_error(path, error) from error
            with suppress(OSError):  # not empty
                for parent in list(PurePosixPath(file).parents)[:-1]:
                    (folder / parent).rmdir()


def _listed_drawings(scores: Path) -> Iterator[str]:
    """Yield the maps and overlays in a file like `scores.jsonl`; lines and values of other programs are skipped."""
    if not scores.is_file():
        return
    with scores.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with suppress(ValueError, RecursionError):
                entry = json.loads(line)
                files = [entry.get("map"), entry.get("overlay")] if isinstance(entry, dict) else []
                yield from (file for file in files if isinstance(file, str) and _is_drawing(file.split("/")))


def _is_drawing(parts: Sequence[str]) -> bool:
    """Whether a path is that of a map or overlay inside the folder of the prediction."""
    return parts[0] in OUTPUTS[SCORES] and ".." not in parts and parts[-1].endswith((".npy", ".png", ".jpg"))


def _csv_line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _jpeg(picture: Image.Image, exif: Image.Exif) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90, exif=exif)
    return buffer.getvalue()
