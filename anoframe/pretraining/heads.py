"""Heads of pretraining, which learn on top of the encoder and are not exported."""

from __future__ import annotations

from torch import nn


class ProjectionHead(nn.Sequential):
    """Projection head of SimCLR (Chen et al., ICML 2020, section 4.2): Linear, [BatchNorm,] ReLU, Linear.

    Args:
        features: length of a feature vector.
        hidden: length of the hidden vector.
        dim: length of an embedding.
        batch_norm: normalise the hidden vector.
    """

    def __init__(self, features: int, hidden: int, dim: int, batch_norm: bool):
        norm = [nn.BatchNorm1d(hidden)] if batch_norm else []
        super().__init__(nn.Linear(features, hidden), *norm, nn.ReLU(), nn.Linear(hidden, dim))


class SimSiamProjector(nn.Sequential):
    """Projector of SimSiam: three linear layers with BatchNorm, the last without ReLU (Chen and He, section 3)."""

    def __init__(self, features: int, dim: int):
        super().__init__(
            nn.Linear(features, dim, bias=False),
            nn.BatchNorm1d(dim),
            nn.ReLU(),
            nn.Linear(dim, dim, bias=False),
            nn.BatchNorm1d(dim),
            nn.ReLU(),
            nn.Linear(dim, dim, bias=False),
            nn.BatchNorm1d(dim, affine=False),
        )


class SimSiamPredictor(nn.Sequential):
    """Predictor of SimSiam: a bottleneck of a quarter of the dimensions, without BatchNorm at its end."""

    def __init__(self, dim: int):
        hidden = max(1, dim // 4)
        super().__init__(nn.Linear(dim, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, dim))
