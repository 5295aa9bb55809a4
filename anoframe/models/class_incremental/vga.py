"""Visual-guided attention (VGA): text features attend to image features (Jha et al., NeurIPS 2024, section 3.2).

One layer of a transformer decoder. Its queries are the text features of all classes; its memory are image features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.errors import AnoframeError

_CHANNELS_PER_HEAD = 64  # of the reference with CoOp
_ROWS_PER_CHUNK = 4096  # rows of queries that go through the feed-forward layer at once, about 50 MB of activations


class Attention(nn.Module):
    """Multi-head attention, initialised as `torch.nn.MultiheadAttention`.

    Queries, keys and values have a matrix each. In that module the three are one, whose gradient must be put together
    in each step.

    Args:
        width, heads, dropout: as for :class:`VGA`; dropout of attention weights.
    """

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        for layer in (self.query, self.key, self.value):
            nn.init.uniform_(layer.weight, -math.sqrt(1.5 / width), math.sqrt(1.5 / width))  # Xavier of all 3 d rows
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.zeros_(layer.bias)

    def forward(self, queries: Tensor, memory: Tensor, blocked: Tensor | None = None) -> Tensor:
        """Let queries `[L, d]` attend to a memory `[M, d]`, where `blocked` `[L, M]` is not True; `[L, d]`."""
        q, k, v = self._split(self.query(queries)), self._split(self.key(memory)), self._split(self.value(memory))
        allowed = None if blocked is None else ~blocked
        rate = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, allowed, rate)  # [heads, L, d / heads]
        return self.out(mixed.transpose(0, 1).flatten(1))

    def _split(self, x: Tensor) -> Tensor:
        """Split channels into heads: `[L, d]` to `[heads, L, d / heads]`."""
        return x.unflatten(1, (self.heads, -1)).transpose(0, 1)


class VGA(nn.Module):
    """Decoder layer with LayerNorm after each residual: self-attention, cross-attention, feed-forward layer.

    Args:
        width: of text and image features, d.
        heads: of both attentions.
        hidden: width of the feed-forward layer.
        dropout: of both attentions and all layers.

    Raises:
        AnoframeError: `width` is no multiple of `heads`.
    """

    def __init__(self, width: int, heads: int = 1, hidden: int = 2048, dropout: float = 0.1):
        super().__init__()
        if width % heads:
            raise AnoframeError(
                f"model.classifier.vga.heads {heads} does not divide the {width} channels of the features: choose a "
                "divisor, for example 1"
            )
        self.self_attention = Attention(width, heads, dropout)
        self.cross_attention = Attention(width, heads, dropout)
        self.expand, self.reduce = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, images: Tensor, blocked: Tensor) -> Tensor:
        """Let queries attend to each other and to all images together.

        Args:
            queries: `[L, d]`, text features.
            images: `[B, d]`, the memory, one sequence of length B.
            blocked: `[L, L]` bool, True where a query (row) must not attend to another (column).

        Returns:
            `[L, d]`.
        """
        x = self._attend_to_queries(queries, blocked)
        return self._feed_forward(self.norm2(x + self.dropout(self.cross_attention(x, images))))

    def each_image(self, queries: Tensor, images: Tensor, blocked: Tensor) -> Tensor:
        """Let queries attend to each image alone, as `forward` with B memories of length 1, in eval mode.

        The only key has the weight 1, so the cross-attention is a linear function of the image.

        Args:
            queries, blocked: as for `forward`.
            images: `[B, d]`.

        Returns:
            `[B, L, d]`.
        """
        x = self._attend_to_queries(queries, blocked)  # [L, d], the same for every image
        attended = self.cross_attention.out(self.cross_attention.value(images))  # [B, d]
        outputs = [
            self._feed_forward(self.norm2(x + chunk[:, None]))  # [b, L, d]
            for chunk in attended.split(max(1, _ROWS_PER_CHUNK // max(1, len(x))))
        ]
        return torch.cat(outputs)

    def _attend_to_queries(self, queries: Tensor, blocked: Tensor) -> Tensor:
        return self.norm1(queries + self.dropout(self.self_attention(queries, queries, blocked)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(F.gelu(self.expand(x)))
        return self.norm3(x + self.dropout(self.reduce(hidden)))


def task_of_class(counts: Sequence[int]) -> Tensor:
    """Return the task of each class, `[C]` int64, for the number of classes of each task.

    >>> task_of_class([2, 1]).tolist()
    [0, 0, 1]
    """
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(list(counts), dtype=torch.int64))


def block_mask(counts: Sequence[int], tokens: bool = False) -> Tensor:
    """Build the mask that separates tasks: a query attends to classes, and to the token, of its own task alone.

    Args:
        counts: number of classes of each task.
        tokens: whether one task token per task follows the classes.

    Returns:
        `[L, L]` bool, True where attention is blocked; L is the number of classes, plus that of tasks with tokens.

    >>> block_mask([1, 2]).int().tolist()
    [[0, 1, 1], [1, 0, 0], [1, 0, 0]]
    """
    task = task_of_class(counts)
    if tokens:
        task = torch.cat([task, torch.arange(len(counts))])
    return task[:, None] != task


def default_heads(width: int, prompt_style: str) -> int:
    """Return the number of heads of the reference for a prompt style."""
    return max(1, width // _CHANNELS_PER_HEAD) if prompt_style == "coop" else 1
