"""Triplet loss: an image is closer to an augmented view of itself than to itself with a synthetic defect.

Schroff et al., "FaceNet", CVPR 2015, equation 1, with distances instead of squared distances and without the choice of
hard negatives.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from anoframe.backbones.encoder import Encoder
from anoframe.errors import AnoframeError
from anoframe.models.learner import ImageSource, TrainingBatch, Views
from anoframe.pretraining.base import Pretraining
from anoframe.pretraining.monitor import spread
from anoframe.pretraining.negatives import OtherImage, SyntheticNegative
from anoframe.pretraining.views import ViewSettings, draw_view


class Triplet(Pretraining):
    """max(0, |a - p| - |a - n| + margin) of unit features, mean over the images.

    Args:
        encoder: to train.
        views: distribution of the positive view; the anchor is only resized.
        synthesis: generator of the negative, `name` and its arguments; the name `other` takes another image.
        margin: of the loss.
        unit: scale features to unit length; False uses them as they are.
    """

    measurements: ClassVar[Collection[str]] = ("accuracy", "spread")

    def __init__(
        self,
        encoder: Encoder,
        views: ViewSettings,
        synthesis: Mapping[str, Any],
        margin: float = 0.5,
        unit: bool = True,
    ):
        super().__init__(encoder)
        if not margin > 0:
            raise AnoframeError(f"learner.margin must be above 0, got {margin}")
        self.margin, self.unit = margin, unit
        self._draw = TripletViews(views, negative_views(synthesis, views.size))

    def views(self) -> Views:
        return self._draw

    def losses(self, batch: TrainingBatch) -> Mapping[str, Tensor]:
        names = ("anchor", "positive", "negative")
        features = self.encoder(torch.cat([batch.features[name] for name in names])).float()
        features = F.normalize(features, dim=1) if self.unit else features
        anchor, positive, negative = features.chunk(3)
        near, far = distances(anchor, positive, negative)
        return {
            "triplet": (near - far + self.margin).clamp_min(0).mean(),
            "accuracy": (near < far).float().mean(),
            "spread": spread(anchor.detach()),
        }


class TripletViews:
    """Draws anchor, positive and negative of an image (`anoframe.models.learner.Views`)."""

    def __init__(self, settings: ViewSettings, negative: Views):
        self._settings, self._negative = settings, negative

    def __call__(self, images: ImageSource, row: int, rng: np.random.Generator) -> Mapping[str, Tensor]:
        positive = draw_view(images.pixels(row), self._settings, rng)
        return {**self._negative(images, row, rng), "positive": positive}


def negative_views(synthesis: Mapping[str, Any], size: int) -> Views:
    """Return what draws `anchor` and `negative`, by the `synthesis` section of a config."""
    if synthesis.get("name") == "other":
        return OtherImage(size)
    from anoframe.data.synthesis.mixture import build_generator

    return SyntheticNegative(build_generator(synthesis), size)


def distances(anchor: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the Euclidean distances `[N]` of the anchors `[N, D]` to their positives and negatives."""
    return torch.linalg.vector_norm(anchor - positive, dim=1), torch.linalg.vector_norm(anchor - negative, dim=1)
