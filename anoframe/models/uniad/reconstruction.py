"""UniAD's trainable network: features to tokens, encoder, memory, decoder, and back to features."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.models.uniad.feature_alignment import FeatureJitter
from anoframe.models.uniad.layers import init_linear
from anoframe.models.uniad.memory import MemoryModule
from anoframe.models.uniad.transformer import MaskedTransformer


class Reconstruction(nn.Module):
    """Reconstruct features.

    Args:
        channels: `C`, the channels of all levels together.
        jitter: noise on tokens in train mode.
        transformer: encoder and decoder. With learned queries, its decoder attends to the memory's output. Without,
            its decoder starts from the memory's output and attends to the encoder's, and tokens are normalised first.
        memory: the memory between encoder and decoder; None for none.
    """

    def __init__(
        self, channels: int, jitter: FeatureJitter, transformer: MaskedTransformer, memory: MemoryModule | None
    ):
        super().__init__()
        self.jitter, self.transformer, self.memory = jitter, transformer, memory
        width = transformer.norm.normalized_shape[0]
        self.inward, self.outward = nn.Linear(channels, width), nn.Linear(width, channels)
        for layer in (self.inward, self.outward):
            init_linear(layer)

    def forward(self, features: Tensor, context: Any = None) -> tuple[Tensor, Tensor | None]:
        """Reconstruct features `[B, C, h, w]`.

        Args:
            features: the clean features; noise is added here, in train mode.
            context: passed to the adapters of the transformer.

        Returns:
            The reconstruction `[B, C, h, w]`, and the slot weights of the memory `[B, h * w, slots]` or None.
        """
        tokens = self.inward(self.jitter(features.flatten(2).transpose(1, 2).contiguous()))
        position, start, weights = self.transformer.position(), None, None
        if self.memory is None:
            memory = self.transformer.encode(tokens, position, context)
        elif self.transformer.queries:
            memory, weights = self.memory(self.transformer.encode(tokens, position, context))
        else:
            memory = self.transformer.encode(F.layer_norm(tokens, tokens.shape[2:]), position, context)
            start, weights = self.memory(memory)
        output = self.outward(self.transformer.decode(memory, position, start, context))
        return output.transpose(1, 2).unflatten(2, features.shape[2:]), weights
