"""A method that scores images only and knows their category, small enough to read."""

from __future__ import annotations

import torch

from anoframe.models.base import ObservingDetector
from anoframe.types import Prediction

CONFIG = '''"""Distance of the pooled feature to its mean, on a network with random weights, for tests."""

from anoframe.config import ConfigDict, inherit

cfg = inherit("__base__/default.py")
{common}
cfg.report.pictures = 6
with cfg.unlocked():
    cfg.model = ConfigDict()
    cfg.model.name = "image_level_method:PooledMean"
    cfg.model.backbone = ConfigDict()
    cfg.model.backbone.name = "test_resnet"
    cfg.model.backbone.levels = (2,)
    cfg.model.backbone.weights = "random"
'''


class PooledMean(ObservingDetector):
    """Distance to the mean of the pooled features; the extra score is the length of the category name."""

    uses_category = True

    def __init__(self, backbone):
        super().__init__(backbone)
        self.register_buffer("mean", torch.zeros(backbone.channels[0]))

    def begin_observation(self, images):
        self._sum, self._images = torch.zeros_like(self.mean), images

    def observe(self, features, samples):
        self._sum += features[0].mean((2, 3)).sum(0)

    def finish_observation(self):
        self.mean = self._sum / self._images

    def add_category(self, features, categories):
        return {"map": features[0], "letters": torch.tensor([float(len(name)) for name in categories])}

    def compute_prediction(self, features, size):
        distance = (features["map"].mean((2, 3)) - self.mean).square().sum(1)
        return Prediction(distance, extra_scores={"letters": features["letters"]})

    def check_image_size(self, height, width):
        if (size := height) % 32 or width != height:
            from anoframe.errors import AnoframeError

            raise AnoframeError(f"data.crop {size} is not a multiple of 32: --data.crop 64 --data.resize 64")
