"""Fixtures for pretraining: small images in memory, and batches of views."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from memory_images import MemoryImages
from processes import process_pool  # noqa: F401

from anoframe.models.learner import TrainingBatch


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
