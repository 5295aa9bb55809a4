"""Pixels for an exported model, equal to the bit to those of training: the same decoding and resizing with Pillow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anoframe.data.geometry import Frame
from anoframe.data.image_decoding import (
    array_to_pillow,
    open_image,
    read_orientation,
    reduce_jpeg,
    to_rgb,
    upright_size,
)
from anoframe.data.preprocessing import Preprocessing
from anoframe.errors import AnoframeError
from anoframe.evaluation.regions import find_regions

ImageLike = str | Path | Image.Image | NDArray[np.uint8]


def load_pixels(image: ImageLike, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Load an image as uint8 `[H, W, 3]` RGB, resized and cropped.

    Args:
        image: a file, a Pillow image, or a uint8 array `[H, W]`, `[H, W, 3]` RGB or `[H, W, 4]` RGBA, whose alpha is
            dropped.
        preprocessing: resize and crop.

    Raises:
        AnoframeError: the file cannot be read, or the array or object is of another kind.
    """
    if isinstance(image, np.ndarray):
        return preprocessing.to_array(array_to_pillow(image))
    if isinstance(image, Image.Image):
        return preprocessing.to_array(to_rgb(image, getattr(image, "filename", "") or "image"))
    if not isinstance(image, str | os.PathLike):
        raise AnoframeError(f"an image must be a path, a Pillow image or a NumPy array, got {type(image).__name__}")
    path = Path(image)
    with open_image(path) as file:
        size = None
        if preprocessing.jpeg_draft and file.format in ("JPEG", "MPO"):
            size = reduce_jpeg(file, *preprocessing.least_sides(*upright_size(file)))
        return preprocessing.to_array(to_rgb(file, path), size)


def describe_photograph(
    path: Path, preprocessing: Preprocessing, anomaly_map: NDArray[np.float32], limit: float | None
) -> dict[str, Any]:
    """Return size, orientation and regions of a photograph in its own frame, as `--mode predict` writes them.

    Args:
        path: of the photograph.
        preprocessing: of the model.
        anomaly_map: `[H, W]`, of the model.
        limit: pixel threshold; None: no regions.
    """
    with open_image(path) as image:
        frame = Frame(preprocessing, *upright_size(image), read_orientation(image))
    height, width = frame.size
    facts: dict[str, Any] = {"width": width, "height": height}
    if frame.orientation != 1:
        facts["orientation"] = frame.orientation
    if limit is not None:
        bands = (np.where(np.isneginf(values), np.nan, values) for _, values in frame.bands(anomaly_map))
        facts |= {"pixel_threshold": limit, "regions": [region.to_json() for region in find_regions(bands, limit)]}
    return facts
