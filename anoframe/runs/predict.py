"""Prediction on new images, any number of them: scores, decisions, maps and overlays as files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from anoframe.data.image_decoding import is_image_file
from anoframe.data.loader import load_image
from anoframe.distributed.devices import choose_device
from anoframe.errors import AnoframeError
from anoframe.evaluation.decision import is_defect
from anoframe.report.pictures import Scale, overlay
from anoframe.training.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from anoframe.utils.files import write_atomic, write_error
from anoframe.utils.paths import expand_path
from anoframe.utils.progress import progress

MAPS = ("npy", "png", "none")
_COLUMNS = ("file", "score", "decision", "threshold")


@dataclass
class Predicted:
    """Summary of what `predict` wrote.

    Attributes:
        folder: folder of the files.
        images: number of scored images.
        defects: number of images with a score at or above the threshold; None if the detector has no threshold.
        bad: file -> why it could not be scored.
    """

    folder: Path
    images: int = 0
    defects: int | None = None
    bad: dict[str, str] = field(default_factory=dict)


def predict(
    checkpoint: str | Path,
    source: str | Path,
    output: str | Path = "predictions",
    category: str | None = None,
    device: str = "auto",
    batch_size: int = 16,
    maps: str = "npy",
    overlays: bool = True,
    overwrite: bool = False,
) -> Predicted:
    """Score images with a trained detector; each prediction is written before the next batch is read.

    The numbers are those of test mode, on a CPU to the bit, for any batch size. Memory: one batch.

    Files in `output`: `scores.csv` and `scores.jsonl` (one line per image), `maps/<file>.npy` (float32, `[crop, crop]`)
    or `.png` (16 bits; its line in `scores.jsonl` has the values of 0 and 65535), and `overlays/<file>.jpg`.

    Args:
        checkpoint: a run folder, its `checkpoint/`, or the folder of one fit.
        source: an image, or a folder that is searched with all its subfolders.
        category: whose detector and threshold to use; needed if there are several of either.
        device: as for a run.
        batch_size: images per batch.
        maps: `"npy"`, `"png"` or `"none"`.
        overlays: write each image with a heatmap and an outline of the defect.
        overwrite: replace earlier predictions in `output`.

    Raises:
        AnoframeError: there is no image, checkpoint or category, or the output cannot be written. A file that cannot be
            scored raises nothing: it is in `bad` and in both score files.
    """
    if maps not in MAPS:
        raise AnoframeError(f"maps is one of {', '.join(MAPS)}, got {maps!r}")
    if batch_size < 1:
        raise AnoframeError(f"batch_size is 1 or more, got {batch_size}")
    checkpoint, output = expand_path(checkpoint, "checkpoint"), expand_path(output, "output")
    root, files = _list_images(expand_path(source, "input"), output)
    trained = load_checkpoint(find_checkpoint(checkpoint, category), choose_device(device))
    if category is None and len(trained.categories) > 1 and any(trained.thresholds.values()):
        names = ", ".join(trained.categories)
        raise AnoframeError(f"{checkpoint} has one threshold per category, choose a category: {names} (--cls_names)")
    writer = _Writer(output, trained, category or trained.categories[0], maps, overlays, overwrite)
    with torch.no_grad():
        for start in progress(range(0, len(files), batch_size), "predict", unit="batch"):
            _predict_batch(trained, root, files[start : start + batch_size], writer)
    return writer.summary


def _predict_batch(trained: Checkpoint, root: Path, files: Sequence[Path], writer: _Writer) -> None:
    names, images = [], []
    for file in files:
        name = file.relative_to(root).as_posix()
        try:
            images.append(load_image(file, trained.preprocessing))
            names.append(name)
        except AnoframeError as error:
            writer.write_error(name, str(error))
    if not images:
        return
    device = next(trained.detector.buffers()).device
    prediction = trained.detector.predict(torch.stack(images).to(device))
    for name, image, score, anomaly_map in zip(
        names, images, prediction.score.cpu(), prediction.anomaly_map.cpu(), strict=True
    ):
        if bool(score.isfinite()) and bool(anomaly_map.isfinite().all()):
            writer.write_prediction(name, image, float(score), anomaly_map.numpy())
        else:
            writer.write_error(name, f"{root / name}: the prediction is not finite; check that image")


class _Writer:
    """Writes predictions one by one: each appends a line to both score files."""

    def __init__(
        self, folder: Path, trained: Checkpoint, category: str, maps: str, overlays: bool, overwrite: bool
    ) -> None:
        self.threshold = trained.thresholds.get(category)
        self.summary = Predicted(folder, defects=None if self.threshold is None else 0)
        self._maps, self._overlays = maps, overlays
        self._csv, self._lines = folder / "scores.csv", folder / "scores.jsonl"
        if self._csv.exists() and not overwrite:
            raise AnoframeError(f"{folder} has earlier predictions: choose another --output, or --overwrite")
        write_atomic(self._csv, _csv_line(_COLUMNS))
        write_atomic(self._lines, "")

    def write_prediction(self, name: str, image: Tensor, score: float, anomaly_map: np.ndarray) -> None:
        """Write the score, map and overlay of an image.

        Args:
            name: path of the file relative to the source.
            image: `[3, H, W]`.
            anomaly_map: `[H, W]`.
        """
        self.summary.images += 1
        defect = None if self.threshold is None else bool(is_defect(score, self.threshold.image))
        self.summary.defects = None if self.summary.defects is None else self.summary.defects + bool(defect)
        entry: dict[str, Any] = {"file": name, "score": score, "defect": defect}
        if self.threshold:
            entry["threshold"] = self.threshold.image
        entry |= self._write_map(name, anomaly_map)
        if self._overlays:
            file = f"overlays/{name}.jpg"
            write_atomic(self.summary.folder / file, _jpeg(self._overlay(image, anomaly_map)))
            entry["overlay"] = file
        decision = "" if defect is None else "defect" if defect else "good"
        self._append(entry, [name, repr(score), decision, repr(self.threshold.image) if self.threshold else ""])

    def write_error(self, name: str, reason: str) -> None:
        """Write why a file could not be scored."""
        self.summary.bad[name] = reason
        self._append({"file": name, "error": reason}, [name, "", "not read", ""])

    def _append(self, entry: dict[str, Any], row: Sequence[str]) -> None:
        try:
            with self._lines.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            with self._csv.open("a", encoding="utf-8") as file:
                file.write(_csv_line(row))
        except OSError as error:
            raise write_error(self.summary.folder, error) from error

    def _write_map(self, name: str, anomaly_map: np.ndarray) -> dict[str, Any]:
        """Write a map and return its entries for `scores.jsonl`."""
        if self._maps == "none":
            return {}
        file = f"maps/{name}.{self._maps}"
        buffer = io.BytesIO()
        if self._maps == "npy":
            np.save(buffer, anomaly_map)
            write_atomic(self.summary.folder / file, buffer.getvalue())
            return {"map": file}
        low, high = float(anomaly_map.min()), float(anomaly_map.max())
        levels = (anomaly_map.astype(np.float64) - low) / max(high - low, 1e-12) * 65535
        Image.fromarray(levels.round().astype(np.uint16)).save(buffer, "PNG")
        write_atomic(self.summary.folder / file, buffer.getvalue())
        return {"map": file, "map_low": low, "map_high": high}

    def _overlay(self, image: Tensor, anomaly_map: np.ndarray) -> Image.Image:
        """Draw the heatmap; without a threshold the colours span the range of this map, and nothing is outlined."""
        low, high = float(anomaly_map.min()), float(anomaly_map.max())
        scale = Scale(low, high, np.inf)
        if self.threshold:  # in the middle of the colours, so that pictures can be compared
            scale = Scale(0.0, 2 * self.threshold.pixel, self.threshold.pixel)
        return overlay(image.permute(1, 2, 0).numpy(), anomaly_map, scale)


def _list_images(source: Path, output: Path) -> tuple[Path, list[Path]]:
    """Return the folder that names are relative to, and the images in it except those below `output`."""
    if source.is_dir():
        files = [path for path in _walk_images(source) if output not in path.parents]
        if not files:
            raise AnoframeError(
                f"no image in {source}: give an image, or a folder of PNG, JPEG, BMP, TIFF or WebP files"
            )
        return source, files
    if not source.exists():
        raise AnoframeError(f"there is no {source}: --input is an image, or a folder of images")
    return source.parent, [source]


def _walk_images(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and is_image_file(path))


def _csv_line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
