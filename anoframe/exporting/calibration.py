"""Training images for the ranges of an 8-bit model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anoframe.config import check_config, load_config
from anoframe.config.discovery import find_run_config
from anoframe.data.cached_reader import Reader
from anoframe.data.preprocessing import Preprocessing
from anoframe.errors import AnoframeError
from anoframe.runs.protocols import open_run_dataset

MAX_IMAGES = 300


def calibration_images(
    checkpoint: Path, categories: Sequence[str], preprocessing: Preprocessing, data_root: str | None = None
) -> list[NDArray[np.uint8]]:
    """Read normal training images of the run of a checkpoint, at most `MAX_IMAGES`, evenly spread.

    Args:
        checkpoint: in the folder of its run, whose config names the data.
        categories: of the images.
        preprocessing: of the detector.
        data_root: folder of the dataset, if it has moved.

    Returns:
        uint8 `[H, W, 3]` each.

    Raises:
        AnoframeError: the run or its data cannot be found.
    """
    cfg = load_config(find_run_config(checkpoint), {"data.root": data_root} if data_root else {})
    check_config(cfg)
    dataset = open_run_dataset(cfg)
    samples = [s for name in categories for s in dataset.samples(name) if s.split == "train" and not s.is_defect]
    if not samples:
        raise AnoframeError(f"no normal training image of {', '.join(categories)} for --precision int8: use fp16")
    chosen = np.linspace(0, len(samples) - 1, min(MAX_IMAGES, len(samples))).round().astype(int)
    reader = Reader(preprocessing)
    return [reader.image(samples[i].image).pixels.permute(1, 2, 0).contiguous().numpy() for i in chosen]
