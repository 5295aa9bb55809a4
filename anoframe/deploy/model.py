"""An exported model with its preprocessing and its decision."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anoframe.data.listing import escape_name, list_images
from anoframe.deploy.description import JSON_FILE, STEM, Description, parse_description
from anoframe.deploy.images import ImageLike, describe_photograph, load_pixels
from anoframe.deploy.runtimes import SUFFIXES, Runtime, open_runtime
from anoframe.errors import AnoframeError
from anoframe.evaluation.decision import is_defect
from anoframe.utils.files import write_atomic
from anoframe.utils.paths import expand_path


@dataclass(frozen=True)
class Result:
    """Prediction for one image.

    Attributes:
        score: higher is more anomalous.
        is_defect: the decision by the image threshold; None without a threshold.
        anomaly_map: float32 `[H, W]` at the resolution of the model; None for a method that scores images only.
        defect_pixels: bool `[H, W]`, pixels at or above the pixel threshold; None without a map or a threshold.
    """

    score: float
    is_defect: bool | None
    anomaly_map: NDArray[np.float32] | None
    defect_pixels: NDArray[np.bool_] | None


class Model:
    """A loaded model; calls from several threads are safe."""

    def __init__(self, runtime: Runtime, description: Description):
        self._runtime, self.description = runtime, description

    def predict(self, image: ImageLike) -> Result:
        """Score an image: a file, a Pillow image, or a uint8 array `[H, W]`, `[H, W, 3]` RGB or `[H, W, 4]`.

        Raises:
            AnoframeError: the image cannot be read, or the prediction is not finite.
        """
        return self.predict_pixels(load_pixels(image, self.description.preprocessing)[None])[0]

    def predict_pixels(self, pixels: NDArray[np.uint8]) -> list[Result]:
        """Score images `[B, H, W, 3]` that are resized and cropped already.

        Raises:
            AnoframeError: they have another size or type, or a prediction is not finite.
        """
        size = self.description.size
        if pixels.ndim != 4 or pixels.shape[1:] != (*size, 3) or pixels.dtype != np.uint8:
            raise AnoframeError(
                f"the model takes uint8 [B, {size[0]}, {size[1]}, 3], got {pixels.dtype} {list(pixels.shape)}: resize "
                "and crop, or call `predict`, which does both"
            )
        scores, *maps = self._runtime(pixels)
        return [self._decide(float(scores[i]), maps[0][i] if maps else None) for i in range(len(scores))]

    def predict_folder(self, source: str | Path) -> Iterator[dict[str, Any]]:
        """Score an image file, or all images of a folder and its subfolders, in the order of their paths.

        Yields:
            One line of `scores.jsonl` per image, as `--mode predict` writes it, without maps and overlays: `file`
            relative to the folder, `score`, `defect`, `threshold`, size, orientation and regions of the photograph; or
            `file` and `error` for an image that cannot be scored.
        """
        path = expand_path(source, "input")
        root, files = (path, list_images(path, recursive=True).files) if path.is_dir() else (path.parent, [path])
        for file in files:
            yield self._entry(file, escape_name(file.relative_to(root).as_posix()))

    def write_scores(self, source: str | Path, output: str | Path) -> int:
        """Write the lines of `predict_folder` to a file; returns the number of images that could not be scored."""
        entries = list(self.predict_folder(source))
        if not entries:
            raise AnoframeError(f"no image in {escape_name(source)}: give an image, or a folder of images")
        lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
        write_atomic(expand_path(output, "output"), lines)
        return sum("error" in entry for entry in entries)

    def _entry(self, file: Path, name: str) -> dict[str, Any]:
        try:
            result = self.predict(file)
        except (AnoframeError, OSError, MemoryError) as error:
            return {"file": name, "error": escape_name(str(error) or f"{file}: not enough memory; shrink the image")}
        entry: dict[str, Any] = {"file": name, "score": result.score, "defect": result.is_defect}
        limits = self.description.threshold
        if limits:
            entry["threshold"] = limits.image
        if result.anomaly_map is not None:
            limit = limits.pixel if limits else None
            entry |= describe_photograph(file, self.description.preprocessing, result.anomaly_map, limit)
        return entry

    def _decide(self, score: float, anomaly_map: NDArray[np.float32] | None) -> Result:
        if not (np.isfinite(score) and (anomaly_map is None or np.isfinite(anomaly_map).all())):
            raise AnoframeError("the prediction is not finite; check that image")
        limits = self.description.threshold
        if limits is None:
            return Result(score, None, anomaly_map, None)
        pixels = None
        if anomaly_map is not None and limits.pixel is not None:
            pixels = is_defect(anomaly_map, limits.pixel)
        return Result(score, bool(is_defect(score, limits.image)), anomaly_map, pixels)


def load(path: str | Path, threads: int = 0, device: str = "CPU") -> Model:
    """Load an exported model.

    Args:
        path: `model.onnx`, `model.xml`, or the folder that has one of them.
        threads: number of threads; 0 leaves it to the runtime.
        device: of the runtime, `"CPU"` or for example `"CUDA"` (ONNX Runtime) or `"GPU"` (OpenVINO).

    Raises:
        AnoframeError: there is no model, it is damaged, or its runtime is not installed.
    """
    file = _model_file(expand_path(path, "model"))
    runtime = open_runtime(file, threads, device)
    if not runtime.metadata:
        raise AnoframeError(f"{file} was not exported by anoframe: its metadata has no description, see {JSON_FILE}")
    return Model(runtime, parse_description(runtime.metadata, file))


def _model_file(path: Path) -> Path:
    if path.is_file():
        return path
    candidates: Sequence[Path] = [path / f"{STEM}{suffix}" for suffix in SUFFIXES]
    files = [file for file in candidates if file.is_file()]
    if len(files) == 1:
        return files[0]
    problem = "several models, choose one" if files else "no model"
    names = ", ".join(file.name for file in files or candidates)
    raise AnoframeError(f"{path}: {problem}: {names}")
