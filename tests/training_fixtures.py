"""A detector that is trained, small enough to be trained to its end in every test."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from anoframe.config import load_config, plain
from anoframe.features.extraction import Encoded
from anoframe.models.base import Detector, Observation, Phase
from anoframe.tracking.timing import Clock
from anoframe.tracking.tracker import Trackers
from anoframe.training.loop import Training
from anoframe.training.stages import learn, seed_everything
from anoframe.types import Prediction, Sample


class Autoencoder(Detector):
    """Reconstructs the image: a mean first, by looking, then two phases of training, with noise and batch norm."""

    def __init__(self):
        super().__init__(nn.Identity())
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1))
        self.scale = nn.Parameter(torch.ones(3, 1, 1))
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.seen = []  # rows of each batch

    def training_stages(self):
        weights = {f"network.{name}": value for name, value in self.network.named_parameters()}
        return [
            Observation("mean", self._begin, self._observe, self._conclude),
            Phase("shape", weights, self._loss),
            Phase("scale", {"scale": self.scale}, self._loss),
        ]

    def _begin(self, images):
        self._count, self._sum = images, torch.zeros(3, 1, 1)

    def _observe(self, features, samples):
        self._sum = self._sum + features.mean((2, 3), keepdim=True).sum(0)

    def _conclude(self):
        self.mean = self._sum / self._count

    def _loss(self, batch):
        self.seen.append(batch.rows.tolist())
        target = batch.features - self.mean
        made = self.scale * self.network(target + 0.1 * torch.randn_like(target))
        return {"squares": (made - target).square().mean(), "size": 1e-3 * made.abs().mean()}

    def detect(self, features, size):
        target = features - self.mean
        maps = (self.scale * self.network(target) - target).square().mean(1)
        return Prediction(maps.flatten(1).max(1).values, maps)


class Heard:
    """A tracker that remembers every event."""

    def __init__(self):
        self.events = []

    def log(self, event, **fields):
        self.events.append((event, fields))

    def close(self, status):
        pass

    def of(self, event):
        return [fields for name, fields in self.events if name == event]


@pytest.fixture
def autoencoder():
    """Makes one, always with the same initial weights."""

    def make():
        seed_everything(0)
        return Autoencoder().eval()

    return make


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def section():
    """The `trainer` section as configs have it, with dotted names changed."""

    def make(phases=None, **changes):
        changes = {"epochs": 3, "batch_size": 4, "save_minutes": 0.0} | changes
        cfg = load_config("__base__/gradient.py", {f"trainer.{name}": v for name, v in changes.items()})
        return plain(cfg.trainer) | {"phases": phases or {}}

    return make


@pytest.fixture
def images():
    """Ten images as features of themselves, in batches of three."""
    pixels = torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    samples = [Sample(Path(f"felt/train/good/{i:03d}.png"), "felt", "train") for i in range(10)]
    starts = range(0, 10, 3)
    return [Encoded(pixels[i : i + 3], torch.zeros(0), tuple(samples[i : i + 3])) for i in starts]


@pytest.fixture
def train(images, section):
    """Trains a detector and gives its `Training` back."""

    def run(detector, home=None, tracker=None, look=None, **changes):
        how = Training("felt", 0, section(**changes), tracker or Trackers(), home, look)
        learn(detector, images, 10, Clock(Trackers()), how)
        return how

    return run
