"""Prediction on new images, any number of them: scores, decisions, maps and overlays as files."""

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
import torch
from PIL import Image

from anoframe.data.image_decoding import is_image_file
from anoframe.data.listing import LeftOut, Listing, Reason, describe_left_out, escape_name, is_hidden, list_images
from anoframe.data.loader import load_photograph
from anoframe.distributed.devices import choose_device
from anoframe.errors import AnoframeError
from anoframe.evaluation.decision import is_defect
from anoframe.evaluation.detection import predict_images
from anoframe.evaluation.regions import Region
from anoframe.report.pictures import Scale
from anoframe.report.predictions_page import PAGE, THUMBNAILS, remove_predictions_page, write_predictions_page
from anoframe.runs.disclosure import list_notes
from anoframe.runs.original_frame import PhotographPrediction
from anoframe.runs.thresholds import Asked, rate_remarks, threshold_options, with_thresholds
from anoframe.training.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from anoframe.utils.files import bounded_name, digest, write_atomic, write_error
from anoframe.utils.paths import expand_path
from anoframe.utils.progress import progress

MAPS = ("npy", "png", "frame", "none")
_COLUMNS = ("file", "score", "decision", "threshold")
_SCORES = "scores.jsonl"
_REGIONS = "regions.csv"
_REGION_COLUMNS = ("file", "region", *(field.name for field in fields(Region)))
_LARGE_MAPS = 10e9  # bytes of all maps together, from which a remark names the smaller ways
_IN_WORK = ".drawing.jsonl"  # the map and overlay that are being written: a kill leaves them without a line of scores
_OUTPUTS = {
    _SCORES: ("maps", "overlays", THUMBNAILS),
    "run.json": ("pictures", "checkpoint"),
}  # file -> folders written next to it
_NOT_READ = (Reason.BROKEN_LINK, Reason.UNREADABLE)  # left out, although they may have been images
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


def predict(
    checkpoint: str | Path,
    source: str | Path | Sequence[str | Path],
    output: str | Path = "predictions",
    category: str | None = None,
    device: str = "auto",
    batch_size: int = 16,
    maps: str = "npy",
    overlays: bool = True,
    overwrite: bool = False,
    threshold: Asked = None,
) -> Predicted:
    """Score images with a trained detector; each prediction is written before the next batch is read.

    The numbers are those of test mode, on a CPU to the bit, for any batch size. Memory: one batch.

    Files in `output`: `scores.csv` and `scores.jsonl` (one line per image), `regions.csv`, `maps/<file>.npy` (float32)
    or `.png` (16 bits; its line in `scores.jsonl` has the values of 0 and 65535), `overlays/<file>.jpg`, and a gallery,
    `predictions.html`. Maps, overlays and regions are in the frame of the photograph as its file stores it, at its size
    (docs/shapes.md).

    Args:
        checkpoint: a run folder, its `checkpoint/`, or the folder of one fit.
        source: an image, or a folder that is searched with all its subfolders and linked folders; or several of them.
            Hidden files and folders, and what anoframe wrote, are left out.
        category: whose detector and threshold to use; needed if there are several of either.
        device: as for a run.
        batch_size: images per batch.
        maps: `"npy"`, `"png"`, `"frame"` (float32, `[H, W]` of the network's image) or `"none"`.
        overlays: write each image with a heatmap and an outline of the defect.
        overwrite: replace the earlier prediction in `output`, with all its maps and overlays.
        threshold: decide with another threshold than the stored one: a dict with `false_positive_rate`, or with `value`
            (a score) and `pixel_value` (a map value).

    Raises:
        AnoframeError: there is no image, checkpoint or category, a rate is asked for without held-back scores to
            estimate it on, or the output cannot be written. A file that cannot be
            scored raises nothing: it is in `bad` and in both score files.
    """
    if maps not in MAPS:
        raise AnoframeError(f"maps is one of {', '.join(MAPS)}, got {maps!r}")
    if batch_size < 1:
        raise AnoframeError(f"batch_size is 1 or more, got {batch_size}")
    checkpoint, output = expand_path(checkpoint, "checkpoint"), expand_path(output, "output")
    options = threshold_options(threshold)
    sources = [source] if isinstance(source, str | Path) else source
    root, listing = _list_inputs([expand_path(path, "input") for path in sources])
    trained = load_checkpoint(find_checkpoint(checkpoint, category), choose_device(device))
    if category is None and len(trained.categories) > 1 and (any(trained.thresholds.values()) or trained.ignored):
        names = ", ".join(trained.categories)
        raise AnoframeError(
            f"{checkpoint} has thresholds or ignored regions per category, choose a category: {names} (--cls_names)"
        )
    decided = category or trained.categories[0]
    trained = with_thresholds(trained, [decided], options)
    writer = _Writer(output, trained, decided, maps, overlays, overwrite)
    writer.num_files = len(listing.files)
    writer.summary.notes += list_notes(trained.detector)
    if options.asked:
        writer.summary.remarks += rate_remarks([trained], [decided])
    writer.summary.remarks += describe_left_out(entry for entry in listing.left_out if entry.reason not in _NOT_READ)
    for entry in listing.left_out:
        if entry.reason in _NOT_READ:
            (reason,) = describe_left_out([entry])
            writer.write_error(entry.path.relative_to(root).as_posix(), reason)
    is_known = trained.detector.uses_category and (category is not None or not trained.detector.category_is_optional)
    with torch.no_grad():
        for start in progress(range(0, len(listing.files), batch_size), "predict", unit="batch"):
            files = listing.files[start : start + batch_size]
            _predict_batch(trained, root, files, writer, batch_size, is_known)
    writer.close()
    writer.write_page(f"{trained.model['name']}, {decided}")
    return writer.summary


def _predict_batch(
    trained: Checkpoint,
    root: Path,
    files: Sequence[Path],
    writer: _Writer,
    batch_size: int,
    is_category_known: bool,
) -> None:
    names, images, limits = [], [], []
    for file in files:
        name = file.relative_to(root).as_posix()
        try:
            loaded = load_photograph(file, trained.preprocessing, trained.ignored.get(writer.category))
            images.append(loaded.pixels)
            limits.append(loaded.counted)
            names.append(name)
        except (AnoframeError, OSError, MemoryError) as error:
            writer.write_error(name, escape_name(str(error) or f"{file}: not enough memory; shrink the image"))
    if not images:
        return
    categories = [writer.category] * len(images) if is_category_known else None
    counted = [each for each in limits if each is not None]
    prediction = predict_images(
        trained.detector,
        torch.stack(images),
        categories,
        trained.tiling,
        torch.stack(counted) if counted else None,
        batch_size,
    )
    maps = [None] * len(images) if prediction.anomaly_map is None else prediction.anomaly_map.cpu().numpy()
    for name, score, anomaly_map in zip(names, prediction.score.tolist(), maps, strict=True):
        if np.isfinite(score) and (anomaly_map is None or np.isfinite(anomaly_map).all()):
            writer.write_prediction(name, root / name, score, anomaly_map)
        else:
            writer.write_error(name, f"{escape_name(root / name)}: the prediction is not finite; check that image")


class _Writer:
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
        self._csv, self._lines, self._regions = folder / "scores.csv", folder / _SCORES, folder / _REGIONS
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


# ------------------------------------------------------------------------------------------------ input


def _list_inputs(sources: Sequence[str | Path]) -> tuple[Path, Listing]:
    """Return the folder that names are relative to, and the images of one or several files and folders.

    Raises:
        AnoframeError: there is no image.
    """
    paths = list(dict.fromkeys(Path(source) for source in sources))
    if not any(os.path.exists(path) for path in paths):  # unlike Path.exists, False for a name that is too long
        shown = escape_name(paths[0]) if paths else "input"
        raise AnoframeError(f"there is no {shown}: --input is images, or folders of images")
    if len(paths) > 1:
        root, listing = _common_folder(paths)
    elif paths[0].is_dir():
        root, listing = paths[0], list_images(paths[0], recursive=True, is_output=_is_output)
    else:  # whatever its suffix
        root, listing = paths[0].parent, Listing([paths[0]])
    if not listing.files:
        left_out = "".join(f". {sentence}" for sentence in describe_left_out(listing.left_out))
        raise AnoframeError(
            f"no image in {escape_name(paths[0])}: give an image, or a folder of PNG, JPEG, BMP, TIFF or WebP "
            f"files{left_out}"
        )
    return root, listing


def _common_folder(paths: Sequence[Path]) -> tuple[Path, Listing]:
    """List files and folders, as a shell names them for `parts/*`, like the content of one folder."""
    if len({path.parent for path in paths}) > 1:
        paths = [Path(os.path.abspath(path)) for path in paths]
    root = Path(os.path.commonpath([path.parent for path in paths]))
    listing = Listing()
    searched: set[Path] = set()
    for path in sorted(
        paths, key=lambda path: (os.path.islink(path), path)
    ):  # a folder with two names has its real one
        if not os.path.isdir(path):
            if is_image_file(path) or not os.path.exists(path):
                listing.files.append(path)
            else:
                listing.left_out.append(LeftOut(path, Reason.HIDDEN_FILE if is_hidden(path.name) else Reason.SUFFIX))
            continue
        real = path.resolve()
        if _is_output(path):
            listing.left_out.append(LeftOut(path, Reason.OUTPUT))
        elif real in searched or (path.is_symlink() and root.resolve().is_relative_to(real)):
            listing.left_out.append(LeftOut(path, Reason.LINKED_FOLDER))
        else:
            content = list_images(path, recursive=True, is_output=_is_output)
            listing.files += content.files
            listing.left_out += content.left_out
            searched.add(real)
    listing.files = sorted(set(listing.files))
    return root, listing


def _is_output(folder: Path) -> bool:
    """Whether a prediction or a run wrote the pictures in a folder; links are followed."""
    real = folder.resolve()
    return any(real.name in names and (real.parent / file).is_file() for file, names in _OUTPUTS.items())


# ------------------------------------------------------------------------------------------------ output


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
    for file in chain(_listed_drawings(folder / _SCORES), _listed_drawings(folder / _IN_WORK)):
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
    """Whether the parts of a path are those of a map or overlay, and lead to no other place."""
    return parts[0] in _OUTPUTS[_SCORES] and ".." not in parts and parts[-1].endswith((".npy", ".png", ".jpg"))


def _csv_line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _jpeg(picture: Image.Image, exif: Image.Exif) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90, exif=exif)
    return buffer.getvalue()
