"""Multi-head attention with an additive mask, and the mask that hides the neighbourhood of each token."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.models.uniad.dropout import dropout


class Attention(nn.Module):
    """Multi-head attention, batch first, with the parameter names and results of `nn.MultiheadAttention`.

    Args:
        width: `d`, a multiple of `heads`.
        heads: number of heads.
        dropout: dropout of attention weights.
    """

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.width, self.heads, self.dropout = width, heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Attend from queries to keys and values.

        Args:
            query: `[B, L, d]`, or `[1, L, d]` if all images have the same queries.
            key: `[B, L, d]`.
            value: `[B, L, d]`.
            mask: `[L, L]`, added to the logits; one row per query. None masks nothing.

        Returns:
            `[B, L, d]`.
        """
        d, weight, bias = self.width, self.in_proj_weight, self.in_proj_bias
        if query is key:
            q, k = F.linear(query, weight[: 2 * d], bias[: 2 * d]).chunk(2, dim=2)
        else:
            q, k = F.linear(query, weight[:d], bias[:d]), F.linear(key, weight[d : 2 * d], bias[d : 2 * d])
        v = F.linear(value, weight[2 * d :], bias[2 * d :])
        q, k, v = (self._split_heads(tokens) for tokens in (q.expand_as(k), k, v))
        mixed = self._mix_values(q, k, v, mask)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def _mix_values(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Mix values by attention weights; all tensors `[B, heads, L, d / heads]`.

        Torch's fused kernel takes a mask. With dropout, it is not fused on a CPU and slower than the code below; on a
        GPU its gradients are not deterministic.
        """
        p = self.dropout if self.training else 0.0
        if not p and not (q.is_cuda and torch.is_grad_enabled()):
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        logits = (q / math.sqrt(q.shape[3])) @ k.transpose(2, 3)
        weights = (logits if mask is None else logits + mask).softmax(3)
        return dropout(weights, p) @ v

    def _split_heads(self, tokens: Tensor) -> Tensor:
        """`[B, L, d]` to `[B, heads, L, d / heads]`."""
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


def neighbour_mask(height: int, width: int, window: int) -> Tensor:
    """Mask of the neighbourhood of each token of a grid.

    A token cannot attend to tokens up to `window // 2` rows and columns away, itself included: an even window masks
    as much as the next odd one.

    Args:
        height: rows of the grid.
        width: columns of the grid; `L = height * width`.
        window: side of the masked square in tokens.

    Returns:
        `[L, L]` bool, one row per query, True where attention is blocked.
    """
    rows, columns = torch.arange(height).repeat_interleave(width), torch.arange(width).repeat(height)
    reach = window // 2
    near_rows, near_columns = ((index[:, None] - index).abs() <= reach for index in (rows, columns))
    return near_rows & near_columns
