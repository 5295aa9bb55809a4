"""A trained detector for tests of whole runs: small, with batch normalisation, equal in one process and in several."""

from __future__ import annotations

import torch
from tiny_data import TINY_DATA
from torch import nn

from anoframe.models.base import Detector, Phase
from anoframe.models.components.anomaly_map import upsample
from anoframe.types import Prediction

CONFIG = (
    '''"""A small trained detector on a network with random weights, for tests."""

from anoframe.config import ConfigDict, inherit

cfg = inherit("__base__/gradient.py")
'''
    + TINY_DATA
    + """cfg.data.batch_size = 2
cfg.report.pictures = 2
cfg.trainer.epochs = 3
cfg.trainer.batch_size = 5  # of six images: the last batch has one, so the second process has none
cfg.trainer.accumulate = 2
cfg.trainer.optimizer.name = "sgd"
cfg.trainer.optimizer.lr = 0.05
cfg.trainer.evaluate_every = 2
cfg.trainer.save_minutes = 0.0  # a state after each step
with cfg.unlocked():
    cfg.model = ConfigDict()
    cfg.model.name = "reconstructor:Reconstructor"
    cfg.model.backbone = ConfigDict()
    cfg.model.backbone.name = "tf_efficientnet_lite0"
    cfg.model.backbone.weights = "random"
    cfg.model.backbone.levels = (2,)
"""
)


class Reconstructor(Detector):
    """Reconstructs a feature map through a bottleneck; the error is the anomaly map."""

    def __init__(self, backbone: nn.Module):
        super().__init__(backbone)
        channels = backbone.channels[0]
        bottleneck = [nn.Conv2d(channels, 8, 1), nn.BatchNorm2d(8), nn.ReLU()]
        self.network = nn.Sequential(*bottleneck, nn.Conv2d(8, channels, 3, padding=1))

    def training_stages(self):
        weights = {f"network.{name}": value for name, value in self.network.named_parameters()}
        return [Phase("first", weights, self._loss), Phase("second", weights, self._loss)]

    def _loss(self, batch):
        return {"distance": self._distance(batch.features[0]).mean()}

    def _distance(self, level):
        scaled = level / level.std((1, 2, 3), keepdim=True)
        return (self.network(scaled) - scaled).square().mean(1)

    def compute_prediction(self, features, size):
        maps = upsample(self._distance(features[0]), size)
        return Prediction(torch.amax(maps, (1, 2)), maps)
