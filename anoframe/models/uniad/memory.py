"""A memory that tokens are read through: each becomes a mixture of what the slots hold, and nothing else of it passes.

Published nowhere: a definition of this project, after the memory of a public prototype; see `docs/uniad.md`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from anoframe.errors import AnoframeError
from anoframe.models.uniad.transformer import initialise


class MemoryModule(nn.Module):
    """`softmax(x Wq (M Wk)^T / sqrt(d)) M Wv`, with no residual.

    Args:
        width: `d`.
        slots: rows of `M`, drawn from a normal distribution of deviation 0.1.
        topk: so many slots, those of the largest logits, are mixed; None is all.
        shrink: weights up to this are set to zero and the others made to sum to one again, as in Gong et al.,
            "Memorizing Normality to Detect Anomaly", ICCV 2019; 0 leaves them. A token all of whose weights are that
            small becomes zero.

    Raises:
        AnoframeError: names the key of the config's `model.memory` that is wrong.
    """

    def __init__(self, width: int = 256, slots: int = 256, topk: int | None = None, shrink: float = 0.0):
        super().__init__()
        if slots < 1:
            raise AnoframeError(f"model.memory.slots is at least 1, got {slots}")
        if topk is not None and not 1 <= topk <= slots:
            raise AnoframeError(f"model.memory.topk lies between 1 and the {slots} slots, got {topk}")
        if not 0 <= shrink < 1:
            raise AnoframeError(f"model.memory.shrink lies between 0 and 1, got {shrink}")
        self.topk, self.shrink = topk, shrink
        self.slots = nn.Parameter(0.1 * torch.randn(slots, width))
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.apply(initialise)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens `[B, L, d]` to what was read `[B, L, d]`, and the weights of the slots `[B, L, slots]`."""
        logits = self.query(tokens) @ self.key(self.slots).T / math.sqrt(tokens.shape[-1])
        if self.topk is not None:
            least = logits.detach().topk(self.topk, dim=-1).values[..., -1:]
            logits = logits.masked_fill(logits < least, -math.inf)
        weights = logits.softmax(-1)
        if self.shrink:
            weights = _shrunk(weights, self.shrink)
        return weights @ self.value(self.slots), weights


def entropy(weights: Tensor) -> Tensor:
    """Mean entropy of weights `[B, L, slots]`, in nats: how far a token is from being one slot."""
    weights = weights.float()
    return -(weights * weights.clamp(min=1e-12).log()).sum(-1).mean()  # a weight of zero has a gradient to speak of


def _shrunk(weights: Tensor, shrink: float) -> Tensor:
    """Weights above `shrink` alone, summing to one again; the formula has a gradient, a comparison would have none."""
    above = (weights - shrink).relu() * weights / ((weights - shrink).abs() + 1e-12)
    return above / above.sum(-1, keepdim=True).clamp(min=1e-12)
