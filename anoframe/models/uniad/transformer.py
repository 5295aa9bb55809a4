"""A transformer that cannot copy its input: neighbour-masked attention, and a decoder that starts from learned queries.

You et al., "A Unified Model for Multi-class Anomaly Detection", NeurIPS 2022, and the authors' code, whose layers these
are: post-norm, ReLU, the code of a place added to queries and keys of every attention and never to values. Tokens are
batch first, `[B, L, d]`, the places of a grid row by row.

Each sub-layer ends in a :class:`Residual`, a site where a method that grows can put an adapter later.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.uniad.dropout import Dropout, dropped

POSITIONS = ("learned", "sine")


class MaskedTransformer(nn.Module):
    """Encoder and decoder of tokens on a grid.

    Layers are copies of one: what is not a weight of an `nn.Linear` is the same in all of them at the start. The
    weights of linear layers are drawn anew for each, Xavier-uniform, with biases of zero.

    Args:
        grid: rows and columns; `L` is their product.
        width: `d`.
        heads: of every attention.
        hidden: width inside the feed-forward part.
        encoder_layers, decoder_layers: how many; none of the encoder hands the tokens on as they are.
        dropout: on attention weights, inside the feed-forward part, and on every residual branch.
        window: side of the square around a place that its attention does not see; see :func:`neighbour_mask`.
        masks: whether the encoder, the first and the second attention of the decoder are masked.
        position: `"learned"` or `"sine"`.
        queries: True for layer-wise queries; False for a plain decoder, which goes on from what it is given.

    Raises:
        AnoframeError: names the key of the config's `model` section that is wrong.
    """

    mask: Tensor

    def __init__(
        self,
        grid: tuple[int, int],
        width: int = 256,
        heads: int = 8,
        hidden: int = 1024,
        encoder_layers: int = 4,
        decoder_layers: int = 4,
        dropout: float = 0.1,
        window: int = 7,
        masks: tuple[bool, bool, bool] = (True, True, True),
        position: str = "learned",
        queries: bool = True,
    ):
        super().__init__()
        _check(width, heads, hidden, encoder_layers, decoder_layers, dropout, position)
        self.masks, self.queries = masks, queries
        blocked = _checked_mask(grid, window) if any(masks) else torch.zeros(0, dtype=torch.bool)
        self.register_buffer("mask", torch.zeros(blocked.shape).masked_fill(blocked, -math.inf), persistent=False)
        self.position = LearnedPosition(grid, width) if position == "learned" else SinePosition(grid, width)
        encoder = EncoderLayer(width, heads, hidden, dropout)
        decoder = DecoderLayer(width, heads, hidden, dropout, grid[0] * grid[1] if queries else None)
        self.encoder = nn.ModuleList(copy.deepcopy(encoder) for _ in range(encoder_layers))
        self.decoder = nn.ModuleList(copy.deepcopy(decoder) for _ in range(decoder_layers))
        self.norm = nn.LayerNorm(width)
        self.apply(initialise)

    def forward(self, tokens: Tensor) -> Tensor:
        """`[B, L, d]` to `[B, L, d]`."""
        position = self.position()
        return self.decode(self.encode(tokens, position), position)

    def encode(self, tokens: Tensor, position: Tensor) -> Tensor:
        """Tokens `[B, L, d]` and the code of their places `[L, d]` to the decoder's memory `[B, L, d]`."""
        mask = self._mask(0)
        for layer in self.encoder:
            tokens = layer(tokens, position, mask)
        return tokens

    def decode(self, memory: Tensor, position: Tensor, start: Tensor | None = None) -> Tensor:
        """What the decoder makes of a memory `[B, L, d]`.

        Args:
            memory: what all layers attend to.
            position: `[L, d]`.
            start: what the first layer goes on from, `[B, L, d]`; None is the memory.
        """
        located = memory + position
        out, out_located = (memory, located) if start is None else (start, start + position)
        for number, layer in enumerate(self.decoder):
            if number:
                out_located = out + position
            out = layer((memory, located), (out, out_located), position, (self._mask(1), self._mask(2)))
        return self.norm(out)

    def sites(self) -> list[Site]:
        """Where a sub-layer ends, in the order of execution; layers are numbered through encoder and decoder."""
        layers = enumerate([*self.encoder, *self.decoder])
        return [Site(number, kind, residual) for number, layer in layers for kind, residual in layer.residuals.items()]

    def _mask(self, which: int) -> Tensor | None:
        return self.mask if self.masks[which] else None


@dataclass(frozen=True)
class Site:
    """The end of a sub-layer."""

    layer_id: int  # from 0, the decoder's after the encoder's
    kind: str  # of the encoder "attn", "ffn"; of the decoder "self" (its first attention), "cross", "ffn"
    residual: Residual


class Residual(nn.Module):
    """The end of a sub-layer, post-norm: `norm(x + dropout(value))`; with an adapter, what that adds.

    An adapter is a module `[B, L, d] -> [B, L, d]` with a bool `sequential`. A parallel one sees the sub-layer's input
    and is added before the norm; a sequential one sees the norm's output, and is added to that.
    """

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self.adapter: nn.Module | None = None

    def forward(self, x: Tensor, value: Tensor) -> Tensor:
        """Input and value of the sub-layer, `[B, L, d]` each, to its output."""
        total = x + self.dropout(value)
        if self.adapter is None:
            return self.norm(total)
        if self.adapter.sequential:
            out = self.norm(total)
            return out + self.adapter(out)
        return self.norm(total + self.adapter(x))


class EncoderLayer(nn.Module):
    """Attention among the tokens, then the feed-forward part."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float):
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.feed_forward = feed_forward(width, hidden, dropout)
        self.residuals = nn.ModuleDict({kind: Residual(width, dropout) for kind in ("attn", "ffn")})

    def forward(self, x: Tensor, position: Tensor, mask: Tensor | None) -> Tensor:
        located = x + position
        x = self.residuals["attn"](x, self.attention(located, located, x, mask))
        return self.residuals["ffn"](x, self.feed_forward(x))


class DecoderLayer(nn.Module):
    """Attention to one thing, attention to another, then the feed-forward part.

    With queries it begins with what no image had a part in, and attends to the memory and then to the output of the
    layer before. Without, it begins with that output, and attends to it and then to the memory.

    Args:
        places: `L`, for a learned query each; None for none.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, places: int | None):
        super().__init__()
        self.query = None if places is None else nn.Parameter(torch.randn(places, width))
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
    ) -> Tensor:
        """Memory and output of the layer before, `[B, L, d]` each and each with its places added, to its own output."""
        if self.query is None:
            x, located, first, second = *previous, previous, memory
        else:  # the same for all images: located once, and seen by each
            x, located, first, second = self.query.expand_as(memory[0]), (self.query + position)[None], memory, previous
        x = self.residuals["self"](x, self.first(located, first[1], first[0], masks[0]))
        x = self.residuals["cross"](x, self.second(x + position, second[1], second[0], masks[1]))
        return self.residuals["ffn"](x, self.feed_forward(x))


class Attention(nn.Module):
    """`nn.MultiheadAttention` with batch first, by its names and numbers, without what is not needed here.

    Args:
        width: `d`, a multiple of the heads.
        dropout: on attention weights.
    """

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.width, self.heads, self.dropout = width, heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Queries `[B, L, d]`, or `[1, L, d]` for all images, keys and values `[B, L, d]`, to `[B, L, d]`.

        Args:
            mask: `[L, L]`, added to the logits; a row a query.
        """
        d, weight, bias = self.width, self.in_proj_weight, self.in_proj_bias
        if query is key:
            q, k = F.linear(query, weight[: 2 * d], bias[: 2 * d]).chunk(2, dim=2)
        else:
            q, k = F.linear(query, weight[:d], bias[:d]), F.linear(key, weight[d : 2 * d], bias[d : 2 * d])
        v = F.linear(value, weight[2 * d :], bias[2 * d :])
        q, k, v = (self._split(part) for part in (q.expand_as(k), k, v))
        found = self._mixed(q, k, v, mask)
        return self.out_proj(found.transpose(1, 2).flatten(2))

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Values mixed by attention; `[B, heads, L, d / heads]` each.

        Torch's fused kernel takes a mask. With dropout it is none on a CPU, and slower than what is written here; on a
        GPU its gradients are not the same each time.
        """
        dropout = self.dropout if self.training else 0.0
        if not dropout and not (q.is_cuda and torch.is_grad_enabled()):
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        logits = (q / math.sqrt(q.shape[3])) @ k.transpose(2, 3)
        weights = (logits if mask is None else logits + mask).softmax(3)
        return dropped(weights, dropout) @ v

    def _split(self, tokens: Tensor) -> Tensor:
        """`[B, L, d]` to `[B, heads, L, d / heads]`."""
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


def feed_forward(width: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), Dropout(dropout), nn.Linear(hidden, width))


class LearnedPosition(nn.Module):
    """A code for each column and one for each row, side by side: the first half of the width is the column's."""

    def __init__(self, grid: tuple[int, int], width: int):
        super().__init__()
        self.columns = nn.Parameter(torch.rand(grid[1], width // 2))
        self.rows = nn.Parameter(torch.rand(grid[0], width // 2))

    def forward(self) -> Tensor:
        """`[L, d]`."""
        shape = (len(self.rows), len(self.columns), -1)
        return torch.cat([self.columns[None].expand(shape), self.rows[:, None].expand(shape)], dim=2).flatten(0, 1)


class SinePosition(nn.Module):
    """Waves over rows in the first half of the width, over columns in the second: nothing is learned.

    A place counts from 1, as a share of a whole turn. Carion et al., "End-to-End Object Detection with Transformers",
    ECCV 2020, as UniAD's code has it.
    """

    code: Tensor

    def __init__(self, grid: tuple[int, int], width: int):
        super().__init__()
        rows, columns = (self._waves(length, width // 2) for length in grid)
        shape = (*grid, -1)
        code = torch.cat([rows[:, None].expand(shape), columns[None].expand(shape)], dim=2).flatten(0, 1)
        self.register_buffer("code", code, persistent=False)

    @staticmethod
    def _waves(length: int, width: int) -> Tensor:
        """`[length, width]`, sine and cosine in turn."""
        angle = torch.arange(1, length + 1) / (length + 1e-6) * 2 * math.pi
        number = torch.arange(width)
        angles = angle[:, None] / 10000 ** (2 * (number // 2) / width)
        return torch.where(number % 2 == 0, angles.sin(), angles.cos())

    def forward(self) -> Tensor:
        """`[L, d]`."""
        return self.code


def neighbour_mask(height: int, width: int, window: int) -> Tensor:
    """Which places of a grid lie too near to be seen: `[L, L]` bool, a row a place that looks, True is blocked.

    Blocked are the places up to `window // 2` rows and columns away, itself among them: an even window is as large as
    the next odd one.
    """
    rows, columns = torch.arange(height).repeat_interleave(width), torch.arange(width).repeat(height)
    reach = window // 2
    near_rows, near_columns = ((one[:, None] - one).abs() <= reach for one in (rows, columns))
    return near_rows & near_columns


def initialise(module: nn.Module) -> None:
    """Linear layers as UniAD's code begins: Xavier-uniform, biases zero."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _checked_mask(grid: tuple[int, int], window: int) -> Tensor:
    if window < 1:
        raise AnoframeError(f"model.window is at least 1, got {window}: without a window, turn the model.mask_* off")
    blocked = neighbour_mask(*grid, window)
    if bool(blocked.all(1).any()):
        raise AnoframeError(
            f"model.window {window} leaves the middle of {grid[0]} x {grid[1]} tokens nothing to look at: a smaller "
            "one, a smaller model.stride, or larger images"
        )
    return blocked


def _check(
    width: int, heads: int, hidden: int, encoder_layers: int, decoder_layers: int, dropout: float, position: str
) -> None:
    _check_counts({"width": width, "heads": heads, "hidden": hidden, "decoder_layers": decoder_layers})
    if encoder_layers < 0:
        raise AnoframeError(f"model.encoder_layers is 0 or more, got {encoder_layers}")
    if width % heads or width % 2:
        raise AnoframeError(f"model.width is even and a multiple of model.heads, got {width} and {heads}")
    if not 0 <= dropout < 1:
        raise AnoframeError(f"model.dropout lies between 0 and 1, got {dropout}")
    if position not in POSITIONS:
        raise AnoframeError(f"model.position is one of {', '.join(POSITIONS)}, got {position!r}")


def _check_counts(counts: dict[str, int]) -> None:
    for name, count in counts.items():
        if count < 1:
            raise AnoframeError(f"model.{name} is at least 1, got {count}")
