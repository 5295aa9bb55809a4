"""A tree in the layout of MVTec LOCO AD, for tests of its metrics."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (40, 56)  # height, width of the photographs
KINDS = ("logical_anomalies", "structural_anomalies")
_CONFIG = [
    {"defect_name": "missing", "pixel_value": 255, "saturation_threshold": 60, "relative_saturation": False},
    {"defect_name": "bent", "pixel_value": 254, "saturation_threshold": 0.4, "relative_saturation": True},
]


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_loco(root: Path) -> Path:
    """Write one category with 6 training, 3 good, 2 logical and 2 structural images; return the root.

    The second defective image of each kind has two masks, which may overlap.
    """
    rng, folder = np.random.default_rng(0), root / "pushpins"
    names = [f"train/good/{i:03d}" for i in range(6)] + [f"test/good/{i:03d}" for i in range(3)]
    names += [f"test/{kind}/{i:03d}" for kind in KINDS for i in range(2)]
    for name in names:
        save(folder / f"{name}.png", rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    for kind in KINDS:
        for image in range(2):
            for number in range(image + 1):
                top, left = rng.integers(0, 25, 2)
                mask = np.zeros(SIZE, np.uint8)
                mask[top : top + 12, left : left + 17] = 255 - number
                save(folder / f"ground_truth/{kind}/{image:03d}/{number:03d}.png", mask)
    (folder / "defects_config.json").write_text(json.dumps(_CONFIG))
    return root
