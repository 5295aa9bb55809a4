"""Three-scale pyramid: each scale attends to the next, and the scales are fused to one vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CrossScaleAttention(nn.Module):
    """Attention of one vector to the vectors of another scale: `LayerNorm(q + Wo softmax(q K^T / sqrt(d)) V)`.

    There is no feed-forward part. With a single key the softmax is 1 whatever the query, so query and key projections
    get no gradient.

    Args:
        width: of all vectors.
        heads: divides `width`.
        dropout: of the attention weights.
    """

    def __init__(self, width: int, heads: int = 4, dropout: float = 0.1):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, query: Tensor, others: Tensor) -> Tensor:
        """Attend from `[B, H]` to `[B, N, H]`: `[B, H]`."""
        q = self._split(self.query(query)[:, None])
        k, v = self._split(self.key(others)), self._split(self.value(others))
        weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)  # [B, heads, 1, N]
        attended = (self.dropout(weights) @ v).transpose(1, 2).flatten(1)
        output: Tensor = self.norm(query + self.output(attended))
        return output

    def _split(self, vectors: Tensor) -> Tensor:
        """`[B, N, H]` as heads: `[B, heads, N, H / heads]`."""
        return vectors.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Pyramid(nn.Module):
    """Fuse the features of all scales to one vector of unit length.

    With the projections `P_i` and the means `f_i` of the projected crops of each scale:

        f1' = CSA(f1, P2(F2));  f2' = CSA(f2, P3(F3));  f3' = CSA(f3, {f1})
        p = normalise(LayerNorm(MLP([f1'; f2'; f3'])))

    Fewer scales, an ablation that the source does not define, form the same ring: each scale attends to the crops of
    the next, and the last to `f1`; a single scale attends to itself.

    Args:
        features: width D of the encoder's features.
        scales: numbers of crops of the scales in use.
        hidden: width H.
        heads, dropout: see :class:`CrossScaleAttention`; the MLP has the same dropout.
    """

    def __init__(
        self, features: int, scales: Sequence[int] = (1, 4, 16), hidden: int = 256, heads: int = 4, dropout: float = 0.1
    ):
        super().__init__()
        count = len(scales)
        self.projections = nn.ModuleList(nn.Linear(features, hidden) for _ in range(count))
        self.attentions = nn.ModuleList(CrossScaleAttention(hidden, heads, dropout) for _ in range(count))
        self.mlp = nn.Sequential(
            nn.Linear(count * hidden, 2 * hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * hidden, hidden)
        )
        self.norm = nn.LayerNorm(hidden)

    def forward(self, scales: Sequence[Tensor]) -> Tensor:
        """Fuse the features `[B, N_i, D]` of each scale, the whole image first: `[B, H]` of unit length."""
        projections = list(zip(self.projections, scales, strict=True))
        projected = [project(crops) for project, crops in projections]
        means = [project(crops.mean(1)) for project, crops in projections]
        others = [*projected[1:], means[0][:, None]]
        attended = [attend(mean, crops) for attend, mean, crops in zip(self.attentions, means, others, strict=True)]
        return F.normalize(self.norm(self.mlp(torch.cat(attended, -1))), dim=1)
