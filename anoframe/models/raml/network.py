"""Everything of RAML that is trained: pyramid, text fusion, feature head and classifier; or a linear probe."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from anoframe.models.raml.fusion import TextFusion
from anoframe.models.raml.pyramid import Pyramid
from anoframe.models.raml.settings import SCALES, PyramidSettings

SCALE_NAMES = {count: f"scale{i}" for i, count in enumerate(SCALES, 1)}  # number of crops -> key of the features


def scale_features(features: Mapping[str, Tensor], count: int) -> Tensor:
    """Features `[B, N, D]` of the scale with `N = count` crops."""
    crops = features[SCALE_NAMES[count]]
    return crops[:, None] if crops.ndim == 2 else crops


class RAMLNetwork(nn.Module):
    """Compute a metric-learning feature and a logit from the features of all scales.

    Args:
        features: width D of the encoder's features.
        pyramid: settings; their hidden width and dropout also hold for fusion and heads.
        fusion: use the text features.
    """

    def __init__(self, features: int, pyramid: PyramidSettings, fusion: bool):
        super().__init__()
        hidden, heads, dropout = pyramid.hidden, pyramid.heads, pyramid.dropout
        self.scales = tuple(pyramid.scales)
        self.pyramid = Pyramid(features, self.scales, hidden, heads, dropout)
        self.fusion = TextFusion(features if fusion else None, hidden, heads, dropout)
        self.feature_head = nn.Sequential(
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.LayerNorm(hidden),
        )
        self.classifier = nn.Sequential(
            nn.Linear(hidden, hidden // 4), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden // 4, 1)
        )

    def forward(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Compute from `scale1` to `scale3`, and `text` with fusion, the feature z `[B, H]` and the logit `[B]`."""
        fused = self.fusion(self.pyramid([scale_features(features, n) for n in self.scales]), features.get("text"))
        z = self.feature_head(fused)
        return z, self.classifier(z)[:, 0]


class LinearProbe(nn.Module):
    """Logistic regression on the standardised features of the whole image: what the encoder gives by itself.

    Standardising with mean and standard deviation of the training images changes no function that it can express, but
    lets it converge within the epochs of the other methods.

    Args:
        features: width D of the encoder's features.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, features: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.linear = nn.Linear(features, 1)

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set mean and standard deviation `[D]`; a feature that never varies is only shifted."""
        self.mean = mean.to(self.mean)
        self.std = torch.where(std > 0, std, torch.ones_like(std)).to(self.std)

    def forward(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Compute the standardised features `[B, D]` and the logit `[B]` from `scale1`."""
        z = (features[SCALE_NAMES[1]] - self.mean) / self.std
        return z, self.linear(z)[:, 0]
