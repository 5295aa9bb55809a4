"""Feature maps of all levels on one grid, and the noise that tokens of it get while something learns to rebuild them.

You et al., "A Unified Model for Multi-class Anomaly Detection", NeurIPS 2022, as the authors' code has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.errors import AnoframeError


def aligned(levels: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
    """`[B, C_l, h_l, w_l]` each to `[B, sum of C_l, *grid]`, the levels side by side in their order.

    Bilinear with the corners of a level on the corners of the grid, and no smoothing before: where a level is much
    finer than the grid, most of it is not looked at.
    """
    return torch.cat([F.interpolate(one, size=grid, mode="bilinear", align_corners=True) for one in levels], dim=1)


class FeatureJitter(nn.Module):
    """Noise on tokens in train mode: `alpha * (norm of the token / C) * xi`, `xi` standard normal in each channel.

    Args:
        alpha: the noise's expected squared norm is `alpha^2 / C` times that of the token.
        p: probability that a batch gets noise.
    """

    def __init__(self, alpha: float = 20.0, p: float = 1.0):
        super().__init__()
        if alpha < 0:
            raise AnoframeError(f"model.jitter.alpha is 0 or more, got {alpha}")
        if not 0 <= p <= 1:
            raise AnoframeError(f"model.jitter.p lies between 0 and 1, got {p}")
        self.alpha, self.p = alpha, p

    def forward(self, tokens: Tensor) -> Tensor:
        """`[B, L, C]` to `[B, L, C]`, by torch's global generator; nothing is drawn where no noise can come of it."""
        if not self.training or self.alpha == 0 or self.p == 0 or (self.p < 1 and float(torch.rand(())) > self.p):
            return tokens
        scale = self.alpha / tokens.shape[2] * tokens.norm(dim=2, keepdim=True)
        return torch.addcmul(tokens, scale, torch.randn_like(tokens))
