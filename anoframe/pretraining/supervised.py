"""Supervised pretraining: cross-entropy over the classes of the images, for example product categories."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.backbones.encoder import Encoder
from anoframe.errors import AnoframeError
from anoframe.models.learner import TrainingBatch, Views
from anoframe.pretraining.base import Pretraining
from anoframe.pretraining.monitor import spread
from anoframe.pretraining.views import AugmentedViews, ViewSettings


class Supervised(Pretraining):
    """A linear classifier on the features, trained with the encoder.

    Args:
        encoder: to train.
        views: distribution of the augmented image.
        classes: names of the classes, the categories of the samples.
        label_smoothing: of the cross-entropy, in [0, 1).
    """

    measurements: ClassVar[Collection[str]] = ("accuracy", "spread")
    needs_classes = True

    def __init__(self, encoder: Encoder, views: ViewSettings, classes: Sequence[str], label_smoothing: float = 0.0):
        super().__init__(encoder)
        if len(set(classes)) < 2:
            raise AnoframeError(
                f"supervised pretraining needs images of two or more classes, got {', '.join(classes) or 'none'}: use "
                "data with one folder per class (data.name classes)"
            )
        if not 0 <= label_smoothing < 1:
            raise AnoframeError(f"learner.label_smoothing lies in [0, 1), got {label_smoothing}")
        self._view_settings, self.label_smoothing = views, label_smoothing
        self._index = {name: number for number, name in enumerate(classes)}
        self.fc = nn.Linear(encoder.num_features, len(self._index))

    def views(self) -> Views:
        return AugmentedViews(self._view_settings, ("image",))

    def losses(self, batch: TrainingBatch) -> Mapping[str, Tensor]:
        features = self.encoder(batch.features["image"])
        logits = self.fc(features)
        labels = torch.tensor([self._index[sample.category] for sample in batch.samples], device=logits.device)
        return {
            "cross_entropy": F.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing),
            "accuracy": (logits.detach().argmax(1) == labels).float().mean(),
            "spread": spread(features.detach()),
        }

    def facts(self) -> dict[str, str]:
        return {"classes": str(len(self._index))}
