"""Align the backbone's levels on one grid, and add noise to their tokens during training.

You et al., "A Unified Model for Multi-class Anomaly Detection", NeurIPS 2022, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.errors import AnoframeError


def align_levels(levels: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
    """Resize all levels to one grid and concatenate their channels.

    The interpolation is bilinear with aligned corners and without antialiasing: where a level is much finer than the
    grid, most of its values are ignored.

    Args:
        levels: feature maps, `[B, C_l, h_l, w_l]` each.
        grid: rows and columns.

    Returns:
        `[B, sum of C_l, *grid]`, the channels in the order of the levels.
    """
    resized = [F.interpolate(level, size=grid, mode="bilinear", align_corners=True) for level in levels]
    return torch.cat(resized, dim=1)


class FeatureJitter(nn.Module):
    """Add `alpha * (norm of the token / C) * xi` to each token in train mode, `xi` standard normal per channel.

    Args:
        alpha: noise strength; the expected squared norm of the noise is `alpha^2 / C` times that of the token.
        p: probability that a batch gets noise.
    """

    def __init__(self, alpha: float = 20.0, p: float = 1.0):
        super().__init__()
        if alpha < 0:
            raise AnoframeError(f"model.jitter.alpha must be 0 or more, got {alpha}")
        if not 0 <= p <= 1:
            raise AnoframeError(f"model.jitter.p must be between 0 and 1, got {p}")
        self.alpha, self.p = alpha, p

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens `[B, L, C]` with noise from torch's global generator; draws no number if the noise would be zero."""
        if not self.training or self.alpha == 0 or self.p == 0 or (self.p < 1 and float(torch.rand(())) > self.p):
            return tokens
        scale = self.alpha / tokens.shape[2] * tokens.norm(dim=2, keepdim=True)
        return torch.addcmul(tokens, scale, torch.randn_like(tokens))
