"""The three words every part of the house shares: Sample, Batch, Prediction.

This module loads no torch, so that an index of samples costs nothing to build.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

GOOD = "good"


@dataclass(frozen=True)
class Sample:
    """One labelled image on disk."""

    image: Path
    category: str
    split: str  # "train" or "test"
    defect: str = GOOD  # defect type, or "good"
    mask: Path | None = None  # ground truth of a defect, where there is one

    @property
    def name(self) -> str:
        """Folder and file: `broken_large/000.png`."""
        return f"{self.image.parent.name}/{self.image.name}"

    @property
    def is_defect(self) -> bool:
        return self.defect != GOOD


@dataclass(frozen=True)
class Batch:
    """Several samples as tensors, resized and cropped, not yet normalised (a backbone owns its mean and std)."""

    images: Tensor  # [B, 3, H, W] uint8, RGB
    masks: Tensor  # [B, 1, H, W] bool, all False where a sample has no mask
    labels: Tensor  # [B] bool, True is defect
    samples: tuple[Sample, ...]
    keys: tuple[str | None, ...] = ()  # of the content of each image, see anoframe.data.reader

    def __len__(self) -> int:
        return len(self.samples)


@dataclass(frozen=True)
class Prediction:
    """What a detector says of a batch. Higher is more anomalous; no value is bounded or calibrated."""

    score: Tensor  # [B] float32, one number an image
    anomaly_map: Tensor  # [B, H, W] float32, at the resolution of the batch
    extra_maps: dict[str, Tensor] = field(default_factory=dict)  # name -> [B, H, W], what a method adds to look at
