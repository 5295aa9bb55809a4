"""Text-visual fusion: a visual vector attends to the text features of a normal and of a defective part."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TextFusion(nn.Module):
    """`LayerNorm(p + g a)` with `a`, the attention of `p` to the projected text, and a learned `g` that starts at 0.1.

    Args:
        features: width D of the text features; None: no fusion, which leaves `LayerNorm(p)`, as with `g = 0`.
        hidden, heads, dropout: of the attention.
    """

    def __init__(self, features: int | None, hidden: int = 256, heads: int = 4, dropout: float = 0.1):
        super().__init__()
        self.uses_text = features is not None
        if features is not None:
            self.projection = nn.Linear(features, hidden)
            self.attention = nn.MultiheadAttention(hidden, heads, dropout, batch_first=True)
            self.scale = nn.Parameter(torch.tensor(0.1))
        self.norm = nn.LayerNorm(hidden)

    def forward(self, visual: Tensor, text: Tensor | None) -> Tensor:
        """Fuse `[B, H]` with text features `[B, 2, D]`, which are not used without fusion: `[B, H]`."""
        if self.uses_text:
            assert text is not None
            projected = self.projection(text)
            attended, _ = self.attention(visual[:, None], projected, projected, need_weights=False)
            visual = visual + self.scale * attended[:, 0]
        fused: Tensor = self.norm(visual)
        return fused
