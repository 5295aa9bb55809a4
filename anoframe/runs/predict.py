"""Predicting on new images, any number of them: scores, decisions, maps and overlays as files."""

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

from anoframe.data.images import is_image_file
from anoframe.data.loader import load_image
from anoframe.distributed.devices import choose_device
from anoframe.errors import AnoframeError
from anoframe.evaluation.decision import is_defect
from anoframe.report.pictures import Scale, overlay
from anoframe.training.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from anoframe.utils.files import cannot_write, write_atomic
from anoframe.utils.progress import progress

MAPS = ("npy", "png", "none")
_COLUMNS = ("file", "score", "decision", "threshold")


@dataclass
class Predicted:
    """What `predict` did.

    Attributes:
        folder: where the files are.
        images: how many were scored.
        defects: how many of them lie at or above the threshold; None where the detector has no threshold.
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
    """Score images with a fitted detector and write what it says of each as soon as it is known.

    The numbers are those of test mode, on a CPU to the bit, whatever the batch size. Memory: one batch.

    Written to `output`: `scores.csv` and `scores.jsonl` (a line a file), `maps/<file>.npy` (float32, `[crop, crop]`) or
    `.png` (16 bits; its line in `scores.jsonl` says which values 0 and 65535 stand for), and `overlays/<file>.jpg`.

    Args:
        checkpoint: a run folder, its `checkpoint/`, or one fit's folder.
        source: an image, or a folder that is searched to its bottom.
        category: which detector to ask, and by which threshold to decide; needed where there are several of either.
        device: as for a run.
        batch_size: images at once.
        maps: `"npy"`, `"png"` or `"none"`.
        overlays: draw heatmap and outline of what is marked on each image.
        overwrite: replace earlier predictions in `output`.

    Raises:
        AnoframeError: nothing to predict, no such checkpoint or category, or the output cannot be written. A file that
            cannot be scored raises nothing: it is in `bad`, and in both score files.
    """
    if maps not in MAPS:
        raise AnoframeError(f"maps is one of {', '.join(MAPS)}, got {maps!r}")
    if batch_size < 1:
        raise AnoframeError(f"batch size {batch_size} must be 1 or more")
    root, files = _files(Path(source), Path(output))
    fitted = load_checkpoint(find_checkpoint(Path(checkpoint), category), choose_device(device))
    if category is None and len(fitted.categories) > 1 and any(fitted.thresholds.values()):
        names = ", ".join(fitted.categories)
        raise AnoframeError(f"{checkpoint} draws a line for each category, say which: {names} (--cls_names)")
    writer = _Writer(Path(output), fitted, category or fitted.categories[0], maps, overlays, overwrite)
    with torch.no_grad():
        for start in progress(range(0, len(files), batch_size), "predict", unit="batch"):
            _predict_batch(fitted, root, files[start : start + batch_size], writer)
    return writer.done


def _predict_batch(fitted: Checkpoint, root: Path, files: Sequence[Path], writer: _Writer) -> None:
    names, images = [], []
    for file in files:
        name = file.relative_to(root).as_posix()
        try:
            images.append(load_image(file, fitted.preprocessing))
            names.append(name)
        except AnoframeError as error:
            writer.refused(name, str(error))
    if not images:
        return
    device = next(fitted.detector.buffers()).device
    prediction = fitted.detector.predict(torch.stack(images).to(device))
    for name, image, score, anomaly_map in zip(
        names, images, prediction.score.cpu(), prediction.anomaly_map.cpu(), strict=True
    ):
        if bool(score.isfinite()) and bool(anomaly_map.isfinite().all()):
            writer.scored(name, image, float(score), anomaly_map.numpy())
        else:
            writer.refused(name, f"{root / name}: the prediction is not finite; check that image")


class _Writer:
    """Keeps each prediction as it comes: both score files grow a line a file."""

    def __init__(
        self, folder: Path, fitted: Checkpoint, category: str, maps: str, overlays: bool, overwrite: bool
    ) -> None:
        self.threshold = fitted.thresholds.get(category)
        self.done = Predicted(folder, defects=None if self.threshold is None else 0)
        self._maps, self._overlays = maps, overlays
        self._csv, self._lines = folder / "scores.csv", folder / "scores.jsonl"
        if self._csv.exists() and not overwrite:
            raise AnoframeError(f"{folder} has earlier predictions: choose another --output, or --overwrite")
        write_atomic(self._csv, _row(_COLUMNS))
        write_atomic(self._lines, "")

    def scored(self, name: str, image: Tensor, score: float, anomaly_map: np.ndarray) -> None:
        self.done.images += 1
        found = None if self.threshold is None else bool(is_defect(score, self.threshold.image))
        self.done.defects = None if self.done.defects is None else self.done.defects + bool(found)
        facts: dict[str, Any] = {"file": name, "score": score, "defect": found}
        if self.threshold:
            facts["threshold"] = self.threshold.image
        facts |= self._write_map(name, anomaly_map)
        if self._overlays:
            file = f"overlays/{name}.jpg"
            write_atomic(self.done.folder / file, _jpeg(self._drawn(image, anomaly_map)))
            facts["overlay"] = file
        decision = "" if found is None else "defect" if found else "good"
        self._add(facts, [name, repr(score), decision, repr(self.threshold.image) if self.threshold else ""])

    def refused(self, name: str, reason: str) -> None:
        self.done.bad[name] = reason
        self._add({"file": name, "error": reason}, [name, "", "not read", ""])

    def _add(self, facts: dict[str, Any], row: Sequence[str]) -> None:
        try:
            with self._lines.open("a", encoding="utf-8") as file:
                file.write(json.dumps(facts, ensure_ascii=False) + "\n")
            with self._csv.open("a", encoding="utf-8") as file:
                file.write(_row(row))
        except OSError as error:
            raise cannot_write(self.done.folder, error) from error

    def _write_map(self, name: str, anomaly_map: np.ndarray) -> dict[str, Any]:
        if self._maps == "none":
            return {}
        file = f"maps/{name}.{self._maps}"
        if self._maps == "npy":
            buffer = io.BytesIO()
            np.save(buffer, anomaly_map)
            write_atomic(self.done.folder / file, buffer.getvalue())
            return {"map": file}
        low, high = float(anomaly_map.min()), float(anomaly_map.max())
        levels = (anomaly_map.astype(np.float64) - low) / max(high - low, 1e-12) * 65535
        buffer = io.BytesIO()
        Image.fromarray(levels.round().astype(np.uint16)).save(buffer, "PNG")
        write_atomic(self.done.folder / file, buffer.getvalue())
        return {"map": file, "map_low": low, "map_high": high}

    def _drawn(self, image: Tensor, anomaly_map: np.ndarray) -> Image.Image:
        """Without a threshold the colours span each map of its own, and nothing is outlined."""
        low, high = float(anomaly_map.min()), float(anomaly_map.max())
        scale = Scale(low, high, np.inf)
        if self.threshold:  # at the middle of the colours, so that pictures can be compared
            scale = Scale(0.0, 2 * self.threshold.pixel, self.threshold.pixel)
        return overlay(image.permute(1, 2, 0).numpy(), anomaly_map, scale)


def _files(source: Path, output: Path) -> tuple[Path, list[Path]]:
    """The folder that names are relative to, and the images; what was written to the output is none of them."""
    if source.is_dir():
        files = [path for path in _found(source) if output not in path.parents]
        if not files:
            raise AnoframeError(
                f"no image in {source}: give an image, or a folder of PNG, JPEG, BMP, TIFF or WebP files"
            )
        return source, files
    if not source.exists():
        raise AnoframeError(f"there is no {source}: --input is an image, or a folder of images")
    return source.parent, [source]


def _found(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and is_image_file(path))


def _row(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
