"""A supervised method small enough to read: the mean feature of normal images, and that of defects."""

from __future__ import annotations

import torch
from torch import nn

from anoframe.models.base import Detector, Observation
from anoframe.types import Prediction

CONFIG = '''"""Two means, on a network with random weights, for tests."""

from anoframe.config import ConfigDict, inherit

cfg = inherit("__base__/default.py")
{common}
cfg.data.split = "raml"
cfg.data.split_seed = 42
cfg.threshold.held_back = 0.2
cfg.report.pictures = 3
with cfg.unlocked():
    cfg.model = ConfigDict()
    cfg.model.name = "toy_supervised:TwoMeans"
    cfg.model.backbone = ConfigDict()
    cfg.model.backbone.name = "test_resnet"
    cfg.model.backbone.levels = (2,)
    cfg.model.backbone.weights = "random"
'''


class TwoMeans(Detector):
    """Scores an image by its distances to the mean normal feature and to the mean defect feature. It has no map."""

    is_supervised = True
    uses_category = True
    accepts_new_categories = True

    def __init__(self, backbone: nn.Module):
        super().__init__(backbone)
        self.register_buffer("means", torch.zeros(2, backbone.channels[0]))
        self.register_buffer("counts", torch.zeros(2, dtype=torch.int64))  # normal images and defects it has learned

    def add_category(self, features, categories):
        return {"image": features[0], "length": torch.tensor([float(len(name)) for name in categories])}

    def training_stages(self):
        return [Observation("means", self._begin, self._observe, self._finish)]

    def _begin(self, images):
        self._sums, self.counts = torch.zeros_like(self.means), torch.zeros(2, dtype=torch.int64)

    def _observe(self, features, samples):
        for feature, sample in zip(features[0].mean((2, 3)), samples, strict=True):
            self._sums[int(sample.is_defect)] += feature
            self.counts[int(sample.is_defect)] += 1

    def _finish(self):
        self.means = self._sums / self.counts[:, None]

    def compute_prediction(self, features, size):
        distances = (features["image"].mean((2, 3))[:, None] - self.means).norm(dim=2)  # [B, 2]
        score = distances[:, 0] - distances[:, 1]
        return Prediction(score, None, extra_scores={"length": features["length"]})

    def notes(self):
        return ["two means are a toy"]


class NormalMean(TwoMeans):
    """The same method without defects: it learns from normal images only."""

    is_supervised = False

    def _finish(self):
        self.means = self._sums / self.counts.clamp(min=1)[:, None]

    def notes(self):
        return []
