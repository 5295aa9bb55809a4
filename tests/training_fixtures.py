"""A trained detector that is small enough to be trained to the end in every test, and fixtures to train it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from anoframe.config import load_config, to_plain
from anoframe.features.extraction import FeatureBatch
from anoframe.models.base import Detector, Observation, Phase
from anoframe.tracking.timing import StageTimer
from anoframe.tracking.tracker import Trackers
from anoframe.training.context import FitContext
from anoframe.training.seeding import seed_everything
from anoframe.training.stages import fit_learner
from anoframe.types import Prediction, Sample


class Autoencoder(Detector):
    """Reconstructs the image. Stages: an observation of the mean, then two phases with noise and batch norm."""

    def __init__(self):
        super().__init__(nn.Identity())
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1))
        self.scale = nn.Parameter(torch.ones(3, 1, 1))
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.batch_rows = []  # rows of each batch that the loss was computed on

    def training_stages(self):
        weights = {f"network.{name}": value for name, value in self.network.named_parameters()}
        return [
            Observation("mean", self._begin, self._observe, self._finish),
            Phase("shape", weights, self._loss),
            Phase("scale", {"scale": self.scale}, self._loss),
        ]

    def _begin(self, images):
        self._count, self._sum = images, torch.zeros(3, 1, 1)

    def _observe(self, features, samples):
        self._sum = self._sum + features.mean((2, 3), keepdim=True).sum(0)

    def _finish(self):
        self.mean = self._sum / self._count

    def _loss(self, batch):
        self.batch_rows.append(batch.rows.tolist())
        target = batch.features - self.mean
        output = self.scale * self.network(target + 0.1 * torch.randn_like(target))
        return {"squares": (output - target).square().mean(), "size": 1e-3 * output.abs().mean()}

    def compute_prediction(self, features, size):
        target = features - self.mean
        maps = (self.scale * self.network(target) - target).square().mean(1)
        return Prediction(maps.flatten(1).max(1).values, maps)


class RecordingTracker:
    """A tracker that records every event."""

    def __init__(self):
        self.events = []

    def log(self, event, **fields):
        self.events.append((event, fields))

    def close(self, status):
        pass

    def of(self, event):
        """Fields of all events of one name."""
        return [fields for name, fields in self.events if name == event]


@pytest.fixture
def autoencoder():
    """Function that builds an autoencoder, always with the same initial weights."""

    def build():
        seed_everything(0)
        return Autoencoder().eval()

    return build


@pytest.fixture
def recorder():
    return RecordingTracker()


@pytest.fixture
def section():
    """Function that returns the `trainer` section of a config, with overrides by dotted name."""

    def build(phases=None, **changes):
        changes = {"epochs": 3, "batch_size": 4, "save_minutes": 0.0} | changes
        cfg = load_config("__base__/gradient.py", {f"trainer.{name}": v for name, v in changes.items()})
        return to_plain(cfg.trainer) | {"phases": phases or {}}

    return build


@pytest.fixture
def images():
    """Ten images whose features are their pixels, in batches of three."""
    pixels = torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    samples = [Sample(Path(f"felt/train/good/{i:03d}.png"), "felt", "train") for i in range(10)]
    starts = range(0, 10, 3)
    return [FeatureBatch(pixels[i : i + 3], torch.zeros(0), tuple(samples[i : i + 3])) for i in starts]


@pytest.fixture
def train(images, section):
    """Function that trains a detector and returns the context of the fit."""

    def run(detector, state_folder=None, tracker=None, evaluate=None, **changes):
        context = FitContext("felt", 0, section(**changes), tracker or Trackers(), state_folder, evaluate)
        fit_learner(detector, images, 10, StageTimer(Trackers()), context)
        return context

    return run
