"""A non-default value for every option of UniAD, and outputs that show a difference between two detectors."""

from __future__ import annotations

import torch
from torch import Tensor

from anoframe.models.uniad.model import UniAD

OPTIONS = {
    "image_size": 48,
    "stride": 4,
    "width": 8,
    "heads": 4,
    "hidden": 8,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "dropout": 0.5,
    "window": 1,
    "mask_encoder": False,
    "mask_first": False,
    "mask_second": False,
    "position": "sine",
    "jitter": {"alpha": 1.0},
    "memory": {"kind": "series"},
    "image_score": "mean",
}


def outputs(detector: UniAD) -> list[Tensor]:
    """The reconstruction in train mode, with noise and dropout, and the prediction."""
    torch.manual_seed(1)
    features = torch.randn(2, detector.reconstruction.inward.in_features, *detector.grid)
    reconstructed = detector.train().reconstruct(features).detach()
    prediction = detector.eval().detect(features, detector.image_size)
    return [reconstructed, prediction.anomaly_map, prediction.score]


def all_equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(map(torch.equal, first, second))
