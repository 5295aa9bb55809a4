"""UniAD's transformer: neighbour-masked attention, and decoder layers that start from learned queries.

You et al., "A Unified Model for Multi-class Anomaly Detection", NeurIPS 2022, and the authors' code. Masks and queries
keep the network from copying its input. Each sub-layer ends in a `Residual`, a site at which a method can add an
adapter.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from anoframe.errors import AnoframeError
from anoframe.models.uniad.attention import neighbour_mask
from anoframe.models.uniad.layers import DecoderLayer, EncoderLayer, Residual, init_linear
from anoframe.models.uniad.position import LearnedPosition, SinePosition

POSITIONS = ("learned", "sine")


@dataclass(frozen=True)
class Site:
    """The residual connection of a sub-layer.

    Attributes:
        layer_id: number of the layer, from 0; decoder layers follow encoder layers.
        kind: `"attn"` or `"ffn"` in the encoder; `"self"` (first attention), `"cross"` or `"ffn"` in the decoder.
        residual: the module.
    """

    layer_id: int
    kind: str
    residual: Residual


class MaskedTransformer(nn.Module):
    """Encoder and decoder for the tokens of a grid.

    Layers are copies of one layer, so all parameters except the weights of `nn.Linear` are equal in all layers at
    the start. The weights of linear layers are drawn per layer, Xavier-uniform, with zero biases.

    Args:
        grid: rows and columns; `L` is their product.
        width: token width `d`.
        heads: attention heads.
        hidden: width inside the feed-forward networks.
        encoder_layers: number of encoder layers; with 0 the decoder receives the tokens unchanged.
        decoder_layers: number of decoder layers.
        dropout: dropout of attention weights, inside the feed-forward networks, and of every residual branch.
        window: side of the square around a token that its attention does not see; see :func:`neighbour_mask`.
        masks: whether the encoder, the first and the second attention of the decoder are masked.
        position: `"learned"` or `"sine"` position codes.
        queries: True: decoder layers start from learned queries; False: a plain decoder.

    Raises:
        AnoframeError: a value is out of range; names its key in the config's `model` section.
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
        _check_settings(width, heads, hidden, encoder_layers, decoder_layers, dropout, position)
        self.masks, self.queries = masks, queries
        blocked = _checked_mask(grid, window) if any(masks) else torch.zeros(0, dtype=torch.bool)
        self.register_buffer("mask", torch.zeros(blocked.shape).masked_fill(blocked, -math.inf), persistent=False)
        self.position = LearnedPosition(grid, width) if position == "learned" else SinePosition(grid, width)
        encoder = EncoderLayer(width, heads, hidden, dropout)
        decoder = DecoderLayer(width, heads, hidden, dropout, grid[0] * grid[1] if queries else None)
        self.encoder = nn.ModuleList(copy.deepcopy(encoder) for _ in range(encoder_layers))
        self.decoder = nn.ModuleList(copy.deepcopy(decoder) for _ in range(decoder_layers))
        self.norm = nn.LayerNorm(width)
        self.apply(init_linear)

    def forward(self, tokens: Tensor, context: Any = None) -> Tensor:
        """Tokens `[B, L, d]` to tokens `[B, L, d]`."""
        position = self.position()
        return self.decode(self.encode(tokens, position, context), position, context=context)

    def encode(self, tokens: Tensor, position: Tensor, context: Any = None) -> Tensor:
        """Run the encoder.

        Args:
            tokens: `[B, L, d]`.
            position: position codes `[L, d]`.
            context: passed to the adapters.

        Returns:
            The encoder output `[B, L, d]`.
        """
        mask = self._mask(0)
        for layer in self.encoder:
            tokens = layer(tokens, position, mask, context=context)
        return tokens

    def decode(self, memory: Tensor, position: Tensor, start: Tensor | None = None, context: Any = None) -> Tensor:
        """Run the decoder.

        Args:
            memory: `[B, L, d]`, the tokens that all layers attend to.
            position: position codes `[L, d]`.
            start: `[B, L, d]`, the "output of the previous layer" of the first layer; None: the memory.
            context: passed to the adapters.

        Returns:
            The normalised output of the last layer, `[B, L, d]`.
        """
        located = memory + position
        out, out_located = (memory, located) if start is None else (start, start + position)
        masks = self._mask(1), self._mask(2)
        for number, layer in enumerate(self.decoder):
            if number:
                out_located = out + position
            out = layer((memory, located), (out, out_located), position, masks, context=context)
        return self.norm(out)

    def sites(self) -> list[Site]:
        """All residual connections, in the order of execution."""
        layers = enumerate([*self.encoder, *self.decoder])
        return [Site(number, kind, residual) for number, layer in layers for kind, residual in layer.residuals.items()]

    def _mask(self, attention: int) -> Tensor | None:
        """The additive mask of the encoder (0), the decoder's first (1) or second attention (2); None if unmasked."""
        return self.mask if self.masks[attention] else None


def _checked_mask(grid: tuple[int, int], window: int) -> Tensor:
    """`neighbour_mask`, or an AnoframeError if it leaves a token nothing to attend to."""
    if window < 1:
        raise AnoframeError(
            f"model.window must be at least 1, got {window}; to train without masks, set model.mask_encoder, "
            "model.mask_first and model.mask_second to False"
        )
    blocked = neighbour_mask(*grid, window)
    if bool(blocked.all(1).any()):
        raise AnoframeError(
            f"model.window {window} masks all {grid[0]} x {grid[1]} tokens for a token in the middle: use a smaller "
            "model.window, a smaller model.stride, or larger images"
        )
    return blocked


def _check_settings(
    width: int, heads: int, hidden: int, encoder_layers: int, decoder_layers: int, dropout: float, position: str
) -> None:
    counts = {"width": width, "heads": heads, "hidden": hidden, "decoder_layers": decoder_layers}
    for name, count in counts.items():
        if count < 1:
            raise AnoframeError(f"model.{name} must be at least 1, got {count}")
    if encoder_layers < 0:
        raise AnoframeError(f"model.encoder_layers must be 0 or more, got {encoder_layers}")
    if width % heads or width % 2:
        raise AnoframeError(f"model.width must be even and a multiple of model.heads, got {width} and {heads}")
    if not 0 <= dropout < 1:
        raise AnoframeError(f"model.dropout must be at least 0 and below 1, got {dropout}")
    if position not in POSITIONS:
        raise AnoframeError(f"model.position must be one of {', '.join(POSITIONS)}, got {position!r}")
