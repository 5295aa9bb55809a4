"""A continual method small enough to read: one mean feature vector per task, and a summary of them."""

from __future__ import annotations

import torch
from torch import nn

from anoframe.models.base import ContinualDetector, Observation
from anoframe.models.components.anomaly_map import upsample
from anoframe.models.summary import MethodSummary, Series, Table
from anoframe.types import Prediction

CONFIG = '''"""One mean per task, on a network with random weights, for tests."""

from anoframe.config import ConfigDict, inherit

cfg = inherit("__base__/default.py")
{common}
cfg.threshold.held_back = 0.0
with cfg.unlocked():
    cfg.model = ConfigDict()
    cfg.model.name = "toy_method:TaskMeans"
    cfg.model.backbone = ConfigDict()
    cfg.model.backbone.name = "test_resnet"
    cfg.model.backbone.levels = (2,)
    cfg.model.backbone.weights = "random"
'''


class TaskMeans(ContinualDetector):
    """Stores the mean feature of each task; an anomaly is far from every mean."""

    def __init__(self, backbone: nn.Module):
        super().__init__(backbone)
        self.register_buffer("means", torch.zeros(0, backbone.channels[0]))
        self.register_buffer("counts", torch.zeros(0, dtype=torch.int64))  # images of each mean

    def start_task(self, task, images):
        """Nothing to prepare."""

    def finish_task(self):
        """Nothing to protect."""

    def training_stages(self):
        return [Observation("mean", self._begin, self._observe, self._finish)]

    def _begin(self, images):
        self._sum, self._images = torch.zeros(self.means.shape[1]), images

    def _observe(self, features, samples):
        self._sum += features[0].mean((2, 3)).sum(0)

    def _finish(self):
        self.means = torch.cat([self.means, self._sum[None] / self._images])
        self.counts = torch.cat([self.counts, torch.tensor([self._images])])

    def compute_prediction(self, features, size):
        distances = (features[0][:, None] - self.means[None, :, :, None, None]).square().mean(2)  # [B, tasks, h, w]
        maps = upsample(distances.amin(1), size)
        return Prediction(maps.amax((1, 2)), maps)

    def messages(self):
        return [f"mean {number} of {count} images" for number, count in enumerate(self.counts.tolist())]

    def summary(self):
        counts = self.counts.tolist()
        return MethodSummary(
            scalars={"means/total": len(counts)},
            tables=[Table("means", "Means", ("task", "images"), list(enumerate(counts)))],
            series=[Series("images", list(enumerate(counts)))],
            message=f"{len(counts)} means",
            config_records={"mean_config": {"level": 2}},
            task_records={"mean_stats": {"count": len(counts)}},
            stream_records={"means": counts},
        )


class SilentMeans(TaskMeans):
    """The same method, which reports nothing."""

    def messages(self):
        return ()

    def summary(self):
        return MethodSummary()
