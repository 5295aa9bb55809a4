"""A memory between encoder and decoder: each token is replaced by a mixture of learned slots.

Not published: a definition of this project, based on the memory of a public prototype; see `docs/uniad.md`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anoframe.errors import AnoframeError
from anoframe.models.uniad.layers import init_linear

MEMORY_KINDS = ("none", "series", "prototype")


@dataclass(frozen=True)
class MemorySettings:
    """Settings of the memory: the section `model.memory` of a config.

    Args:
        kind: `"none"`: UniAD as published. `"series"`: the decoder receives the memory's output instead of the
            encoder's. `"prototype"`: a public prototype for comparison, with a plain decoder that starts from the
            memory's output and attends to the encoder's output directly, without masks, on features after a sigmoid.
        slots, topk, shrink: see :class:`MemoryModule`.
        entropy: weight of the mean entropy of the slot weights in the loss.

    Raises:
        AnoframeError: a value is out of range.
    """

    kind: str = "none"
    slots: int = 256
    topk: int | None = None
    shrink: float = 0.0
    entropy: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in MEMORY_KINDS:
            raise AnoframeError(f"model.memory.kind must be one of {', '.join(MEMORY_KINDS)}, got {self.kind!r}")
        if self.entropy < 0:
            raise AnoframeError(f"model.memory.entropy must be 0 or more, got {self.entropy}")


class MemoryModule(nn.Module):
    """`softmax(x Wq (M Wk)^T / sqrt(d)) M Wv`, without a residual.

    Args:
        width: token width `d`.
        slots: number of rows of `M`, initialised from a normal distribution with standard deviation 0.1.
        topk: number of slots that are mixed, those with the largest logits; None mixes all.
        shrink: weights up to this value are set to zero and the others are normalised to sum to one again, as in Gong
            et al., "Memorizing Normality to Detect Anomaly", ICCV 2019; 0 changes no weight. A token whose weights are
            all below it becomes zero.

    Raises:
        AnoframeError: a value is out of range; names its key in `model.memory`.
    """

    def __init__(self, width: int = 256, slots: int = 256, topk: int | None = None, shrink: float = 0.0):
        super().__init__()
        if slots < 1:
            raise AnoframeError(f"model.memory.slots must be at least 1, got {slots}")
        if topk is not None and not 1 <= topk <= slots:
            raise AnoframeError(f"model.memory.topk must be between 1 and model.memory.slots = {slots}, got {topk}")
        if not 0 <= shrink < 1:
            raise AnoframeError(f"model.memory.shrink must be at least 0 and below 1, got {shrink}")
        self.topk, self.shrink = topk, shrink
        self.slots = nn.Parameter(0.1 * torch.randn(slots, width))
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.apply(init_linear)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Read the memory with tokens `[B, L, d]`.

        Returns:
            The mixtures `[B, L, d]`, and the slot weights `[B, L, slots]`.
        """
        logits = self.query(tokens) @ self.key(self.slots).T / math.sqrt(tokens.shape[-1])
        if self.topk is not None:
            smallest_kept = logits.detach().topk(self.topk, dim=-1).values[..., -1:]
            logits = logits.masked_fill(logits < smallest_kept, -math.inf)
        weights = logits.softmax(-1)
        if self.shrink:
            weights = _hard_shrink(weights, self.shrink)
        return weights @ self.value(self.slots), weights


def mean_entropy(weights: Tensor) -> Tensor:
    """Mean entropy of slot weights `[B, L, slots]` in nats; 0 if each token reads a single slot."""
    weights = weights.float()
    return -(weights * weights.clamp(min=1e-12).log()).sum(-1).mean()  # the clamp keeps the gradient at zero finite


def _hard_shrink(weights: Tensor, shrink: float) -> Tensor:
    """Keep only weights above `shrink`, normalised to sum to one; a formula, because a comparison has no gradient."""
    above = (weights - shrink).relu() * weights / ((weights - shrink).abs() + 1e-12)
    return above / above.sum(-1, keepdim=True).clamp(min=1e-12)
