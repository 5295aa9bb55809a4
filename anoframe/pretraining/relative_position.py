"""Relative position: which of the eight neighbours of a patch is another patch of the same image.

Doersch et al., "Unsupervised Visual Representation Learning by Context Prediction", ICCV 2015. Gaps and jitter between
the patches and dropped colour channels prevent shortcuts by lines that go on and by lens errors (section 3.1).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.backbones.encoder import Encoder
from anoframe.errors import AnoframeError
from anoframe.models.learner import ImageSource, TrainingBatch, Views
from anoframe.pretraining.base import Pretraining
from anoframe.pretraining.monitor import spread
from anoframe.pretraining.views import ViewSettings, draw_crop, resize

NEIGHBOURS = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if row or column)
_NOISE_SHARE = 0.01  # standard deviation of the noise in a dropped channel, relative to that of the kept one


class RelativePosition(Pretraining):
    """Classify the position of a neighbour patch; optionally also the rotation of the centre patch.

    Args:
        encoder: to train, on single patches.
        views: `size` and `scale` of the crop that holds the 3 x 3 patches are used.
        cell: side of a patch in pixels.
        gap: pixels between two patches before the jitter.
        jitter: largest shift of a patch in pixels.
        drop_channels: probability that two of the three colour channels of a patch are replaced by noise.
        hidden: width of the classifier.
        rotation: also predict by how many quarter turns the centre patch was rotated (Gidaris et al., ICLR 2018).
    """

    measurements: ClassVar[Collection[str]] = ("accuracy", "spread")

    def __init__(
        self,
        encoder: Encoder,
        views: ViewSettings,
        cell: int = 64,
        gap: int = 8,
        jitter: int = 7,
        drop_channels: float = 0.5,
        hidden: int = 512,
        rotation: bool = False,
    ):
        super().__init__(encoder)
        if min(cell, hidden) < 1 or min(gap, jitter) < 0 or not 0 <= drop_channels <= 1:
            raise AnoframeError(
                "learner.cell and hidden are 1 or more, gap and jitter 0 or more, drop_channels in [0, 1]; got "
                f"{cell}, {hidden}, {gap}, {jitter}, {drop_channels}"
            )
        needed = 3 * cell + 2 * gap + 2 * jitter
        if needed > views.size:
            raise AnoframeError(
                f"three patches of {cell} pixels with gaps of {gap} and a jitter of {jitter} need {needed} pixels, and "
                f"views.size is {views.size}: lower --learner.cell, or raise --views.size"
            )
        self._draw = PatchPairs(views, cell, gap, jitter, drop_channels, rotation)
        self.position_head = nn.Sequential(
            nn.Linear(2 * encoder.num_features, hidden), nn.ReLU(), nn.Linear(hidden, len(NEIGHBOURS))
        )
        self.rotation_head = nn.Linear(encoder.num_features, 4) if rotation else None

    def views(self) -> Views:
        return self._draw

    def losses(self, batch: TrainingBatch) -> Mapping[str, Tensor]:
        views = batch.features
        names = ("centre", "neighbour", *(["rotated"] if self.rotation_head else []))
        features = self.encoder(torch.cat([views[name] for name in names])).chunk(len(names))
        logits = self.position_head(torch.cat(features[:2], 1)).float()
        losses = {
            "position": F.cross_entropy(logits, views["position"]),
            "accuracy": (logits.detach().argmax(1) == views["position"]).float().mean(),
            "spread": spread(features[0].detach()),
        }
        if self.rotation_head:
            losses["rotation"] = F.cross_entropy(self.rotation_head(features[2]).float(), views["turns"])
        return losses


class PatchPairs:
    """Draws the centre patch, one of its neighbours and the neighbour's position (`anoframe.models.learner.Views`)."""

    def __init__(
        self, settings: ViewSettings, cell: int, gap: int, jitter: int, drop_channels: float, rotation: bool = False
    ):
        self._settings, self._cell, self._gap, self._jitter = settings, cell, gap, jitter
        self._drop_channels, self._rotation = drop_channels, rotation

    def __call__(self, images: ImageSource, row: int, rng: np.random.Generator) -> Mapping[str, Tensor]:
        pixels, size = images.pixels(row), self._settings.size
        top, left, height, width = draw_crop(rng, pixels.shape[-2:], self._settings.scale, self._settings.ratio)
        crop = resize(pixels[:, top : top + height, left : left + width], size)
        position = int(rng.integers(len(NEIGHBOURS)))
        centre, neighbour = (self._cut(crop, offset, rng) for offset in ((0, 0), NEIGHBOURS[position]))
        patches = {"centre": self._drop(centre, rng), "neighbour": self._drop(neighbour, rng)}
        views = {**patches, "position": torch.tensor(position)}
        if self._rotation:
            turns = int(rng.integers(4))
            views |= {"rotated": centre.rot90(turns, (1, 2)).contiguous(), "turns": torch.tensor(turns)}
        return views

    def _cut(self, crop: Tensor, offset: tuple[int, int], rng: np.random.Generator) -> Tensor:
        """Cut the patch at an offset from the centre, in cells, shifted by the jitter."""
        middle, step = (self._settings.size - self._cell) // 2, self._cell + self._gap
        shifts = rng.integers(-self._jitter, self._jitter + 1, 2)
        limit = self._settings.size - self._cell
        top, left = (min(max(0, middle + step * o + int(s)), limit) for o, s in zip(offset, shifts, strict=True))
        return crop[:, top : top + self._cell, left : left + self._cell].contiguous()

    def _drop(self, patch: Tensor, rng: np.random.Generator) -> Tensor:
        """Replace two channels by noise around the mean of the kept one, with a probability."""
        if rng.random() >= self._drop_channels:
            return patch
        channel = int(rng.integers(3))
        kept = patch[channel].float()
        noise = rng.normal(float(kept.mean()), _NOISE_SHARE * float(kept.std()), (3, *kept.shape))
        dropped = torch.from_numpy(noise.round().clip(0, 255).astype(np.uint8))
        dropped[channel] = patch[channel]
        return dropped
