"""Prediction on new images, any number of them: scores, decisions, maps and overlays as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from anoframe.data.listing import Reason, describe_left_out, escape_name
from anoframe.data.loader import load_photograph
from anoframe.distributed.devices import choose_device
from anoframe.errors import AnoframeError
from anoframe.evaluation.detection import predict_images
from anoframe.runs.disclosure import list_notes
from anoframe.runs.prediction_inputs import list_inputs
from anoframe.runs.prediction_writer import Predicted, PredictionWriter
from anoframe.runs.thresholds import Asked, rate_remarks, threshold_options, with_thresholds
from anoframe.training.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from anoframe.utils.paths import expand_path
from anoframe.utils.progress import progress

MAPS = ("npy", "png", "frame", "none")
_NOT_READ = (Reason.BROKEN_LINK, Reason.UNREADABLE)  # left out, although they may have been images


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
    root, listing = list_inputs([expand_path(path, "input") for path in sources])
    trained = load_checkpoint(find_checkpoint(checkpoint, category), choose_device(device))
    if category is None and len(trained.categories) > 1 and (any(trained.thresholds.values()) or trained.ignored):
        names = ", ".join(trained.categories)
        raise AnoframeError(
            f"{checkpoint} has thresholds or ignored regions per category, choose a category: {names} (--cls_names)"
        )
    decided = category or trained.categories[0]
    trained = with_thresholds(trained, [decided], options)
    writer = PredictionWriter(output, trained, decided, maps, overlays, overwrite)
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
    writer: PredictionWriter,
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
