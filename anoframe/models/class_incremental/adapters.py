"""Variational adapters: mean and standard deviation of a text feature (Jha et al., NeurIPS 2024, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.models.class_incremental.priors import Gaussian

_LEAST_STD = 0.001


class Projection(nn.Module):
    """A linear layer, after a LayerNorm if `norm`."""

    def __init__(self, width: int, norm: bool):
        super().__init__()
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.linear(self.norm(x))
        return projected


class Adapter(nn.Module):
    """`mu(x) = W x + b` and `sigma(x) = 0.999 softplus(W' x + b') + 0.001`.

    Args:
        width: of a text feature, d.
        variational: False: there is no `sigma`.
        norm: a LayerNorm before each linear layer, as the reference has it with CoOp.
    """

    def __init__(self, width: int, variational: bool = True, norm: bool = False):
        super().__init__()
        self.mu = Projection(width, norm)
        self.sigma = Projection(width, norm) if variational else None

    def forward(self, x: Tensor) -> Gaussian:
        """Compute the distributions for text features `[..., d]`."""
        if self.sigma is None:
            return Gaussian(self.mu(x), None)
        return Gaussian(self.mu(x), (1 - _LEAST_STD) * F.softplus(self.sigma(x)) + _LEAST_STD)

    @torch.no_grad()
    def initialise(self, means: Tensor, variances: Tensor) -> None:
        """Set the weights from text features: `M^T M / d` and `V^T V / d`; biases are not changed.

        Args:
            means, variances: `[C, d]`, over the texts of each class, for all classes seen so far.
        """
        self.mu.linear.weight.copy_(means.T @ means / means.shape[1])
        if self.sigma is not None:
            self.sigma.linear.weight.copy_(variances.T @ variances / means.shape[1])
