"""Encoder and decoder layers of UniAD, and the residual connections at which adapters can be added.

As in the authors' code: post-norm, ReLU, position codes added to the queries and keys of every attention and never to
the values. Tokens are batch first, `[B, L, d]`, the positions of a grid row by row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from anoframe.models.uniad.attention import Attention
from anoframe.models.uniad.dropout import Dropout


class Residual(nn.Module):
    """Residual connection and post-norm of a sub-layer: `norm(x + dropout(value))`, plus the output of an adapter.

    An adapter is a module `adapter(tokens [B, L, d], context) -> [B, L, d]` with a bool attribute `sequential`. A
    parallel adapter receives the sub-layer's input, and its output is added before the norm. A sequential one receives
    the norm's output, and its output is added to it. `context` is what the caller passed to the transformer for this
    forward pass; without adapters it is not used.
    """

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self.adapter: nn.Module | None = None

    def forward(self, x: Tensor, value: Tensor, context: Any = None) -> Tensor:
        """Output of the sub-layer `[B, L, d]`, from its input `x` and its `value`, `[B, L, d]` each."""
        total = x + self.dropout(value)
        if self.adapter is None:
            return self.norm(total)
        if self.adapter.sequential:
            out = self.norm(total)
            return out + self.adapter(out, context)
        return self.norm(total + self.adapter(x, context))


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward network."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float):
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.feed_forward = feed_forward(width, hidden, dropout)
        self.residuals = nn.ModuleDict({kind: Residual(width, dropout) for kind in ("attn", "ffn")})

    def forward(self, x: Tensor, position: Tensor, mask: Tensor | None, context: Any = None) -> Tensor:
        """Tokens `[B, L, d]` and position codes `[L, d]` to tokens `[B, L, d]`."""
        located = x + position
        x = self.residuals["attn"](x, self.attention(located, located, x, mask), context=context)
        return self.residuals["ffn"](x, self.feed_forward(x), context=context)


class DecoderLayer(nn.Module):
    """Two attentions, then a feed-forward network.

    With learned queries, the layer starts from them, so its start does not depend on the image; it attends to the
    encoder output and then to the output of the previous layer. Without, it starts from the output of the previous
    layer and attends to it and then to the encoder output.

    Args:
        positions: `L`, the number of learned queries; None for a layer without queries.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, positions: int | None):
        super().__init__()
        self.query = None if positions is None else nn.Parameter(torch.randn(positions, width))
        self.first = Attention(width, heads, dropout)
        self.second = Attention(width, heads, dropout)
        self.feed_forward = feed_forward(width, hidden, dropout)
        self.residuals = nn.ModuleDict({kind: Residual(width, dropout) for kind in ("self", "cross", "ffn")})

    def forward(
        self,
        memory: tuple[Tensor, Tensor],
        previous: tuple[Tensor, Tensor],
        position: Tensor,
        masks: tuple[Tensor | None, Tensor | None],
        context: Any = None,
    ) -> Tensor:
        """Compute the output `[B, L, d]` of the layer.

        Args:
            memory: encoder output, and the same with position codes added, `[B, L, d]` each.
            previous: output of the previous layer, and the same with position codes added.
            position: position codes `[L, d]`.
            masks: additive masks of the first and the second attention.
            context: passed to the adapters.
        """
        if self.query is None:
            x, located, first, second = *previous, previous, memory
        else:  # the queries are the same for all images, so their position codes are added once
            x, located, first, second = self.query.expand_as(memory[0]), (self.query + position)[None], memory, previous
        x = self.residuals["self"](x, self.first(located, first[1], first[0], masks[0]), context=context)
        x = self.residuals["cross"](x, self.second(x + position, second[1], second[0], masks[1]), context=context)
        return self.residuals["ffn"](x, self.feed_forward(x), context=context)


def feed_forward(width: int, hidden: int, dropout: float) -> nn.Sequential:
    """Two linear layers with ReLU and dropout between them."""
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), Dropout(dropout), nn.Linear(hidden, width))


def init_linear(module: nn.Module) -> None:
    """Initialise a linear layer as UniAD's code does: Xavier-uniform weights, zero biases."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
