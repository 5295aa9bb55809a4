"""Every option of UniAD with a value that is not that of the small one, and what two detectors can be told apart by."""

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


def outcome(detector: UniAD) -> list[Tensor]:
    """What it rebuilds in train mode, with noise and dropout, and what it makes of features in eval mode."""
    torch.manual_seed(1)
    features = torch.randn(2, detector.reconstruction.inward.in_features, *detector.grid)
    rebuilt = detector.train().reconstruct(features).detach()
    found = detector.eval().detect(features, detector.image_size)
    return [rebuilt, found.anomaly_map, found.score]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(map(torch.equal, one, other))
