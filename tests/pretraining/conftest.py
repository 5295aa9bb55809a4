"""Fixtures for pretraining: small images in memory, and batches of views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from processes import process_pool  # noqa: F401

from anoframe.models.learner import TrainingBatch
from anoframe.types import Sample


class MemoryImages:
    """An image source of random images [3, side, side] of two classes."""

    def __init__(self, count=8, side=40, seed=0):
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.rand(count, 3, 5, 5, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
        self._pixels = (255 * smooth).to(torch.uint8)
        self.samples = tuple(Sample(Path(f"{i}.png"), f"class{i % 2}", "train") for i in range(count))

    def __len__(self):
        return len(self.samples)

    def pixels(self, row):
        return self._pixels[row]

    def sample(self, row):
        return self.samples[row]


@pytest.fixture(scope="session")
def images():
    return MemoryImages()


@pytest.fixture(scope="session")
def batch_of(images):
    """Function that draws the views of some rows as a training batch."""

    def draw(views, rows=range(8), seed=0):
        drawn = [views(images, row, np.random.default_rng((seed, row))) for row in rows]
        features = {name: torch.stack([view[name] for view in drawn]) for name in drawn[0]}
        return TrainingBatch(features, tuple(images.samples[row] for row in rows), torch.tensor(list(rows)))

    return draw
