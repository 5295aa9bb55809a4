"""The types that all packages share: Sample, Batch, Prediction.

This module imports no torch, so that indexing a dataset is fast.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

GOOD = "good"  # defect type of a normal image
SYNTHETIC = "synthetic"  # defect type of a normal image with a synthetic defect


@dataclass(frozen=True)
class Sample:
    """One labelled image on disk."""

    image: Path
    category: str
    split: str  # "train" or "test"
    defect: str = GOOD  # defect type, or "good"
    mask: Path | None = None  # ground truth of a defect: a file, a folder of files to join, or None
    synthetic: bool = False  # the image with a synthetic defect, see anoframe/data/synthetic_samples.py

    @property
    def name(self) -> str:
        """Folder and file name: `broken_large/000.png`."""
        return f"{self.image.parent.name}/{self.image.name}"

    @property
    def is_defect(self) -> bool:
        return self.defect != GOOD


@dataclass(frozen=True)
class Batch:
    """Samples as tensors, resized and cropped but not normalised (the backbone applies its own mean and std)."""

    images: Tensor  # [B, 3, H, W] uint8, RGB
    masks: Tensor  # [B, 1, H, W] bool, all False for a sample without a mask
    labels: Tensor  # [B] bool, True for a defect
    samples: tuple[Sample, ...]
    keys: tuple[str | None, ...] = ()  # content key of each image, see anoframe.data.cached_reader

    def __len__(self) -> int:
        return len(self.samples)


@dataclass(frozen=True)
class Prediction:
    """Scores and anomaly maps of a batch. Higher is more anomalous; values are neither bounded nor calibrated."""

    score: Tensor  # [B] float32, one score per image
    anomaly_map: Tensor | None = None  # [B, H, W] float32, at the resolution of the batch; None: an image-level method
    extra_maps: dict[str, Tensor] = field(default_factory=dict)  # name -> [B, H, W], additional maps for the report
    extra_scores: dict[str, Tensor] = field(default_factory=dict)  # name -> [B], image scores that are measured as well
    threshold: float | None = None  # score from which on an image is a defect; a detector itself knows none
    patch_scores: Tensor | None = None  # [B, h, w] whose maximum is the score, if the map is not made to have it

    @property
    def is_anomalous(self) -> bool | Tensor | None:
        """Whether each image is a defect: `[B]` bool, or one bool for the score of one image; None if unknown."""
        if self.threshold is None:
            return None
        flagged = self.score >= self.threshold  # in the precision of the scores, as `evaluation.decision.is_defect`
        return flagged if flagged.ndim else bool(flagged)
