"""A small CLIP model with random weights and the interface of `anoframe.backbones.clip.ClipEncoder`, for tests."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FakeCLIP(nn.Module):
    """Two transformer layers on 4 x 4 patches; a text is a random vector, seeded by its words, and their average.

    Images of any size are shrunk to 32 pixels. `prompts_seen` lists every prompt that was encoded.
    """

    image_size, width, embed_dim, grid, has_text, name = 32, 24, 16, (4, 4), True, "fake_clip"
    weights, sha256, quick_gelu = "random", "0" * 64, False

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5), persistent=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.patch = nn.Conv2d(3, self.width, 8, 8)
            self.class_token = nn.Parameter(torch.randn(self.width))
            self.position = nn.Parameter(torch.randn(17, self.width))
            self.before, self.after = nn.LayerNorm(self.width), nn.LayerNorm(self.width)
            layers = [nn.TransformerEncoderLayer(self.width, 4, 48, 0.0, batch_first=True) for _ in range(2)]
            self.layers = nn.Sequential(*layers)
            self.projection = nn.Parameter(torch.randn(self.width, self.embed_dim))
        self.requires_grad_(False).eval()
        self.prompts_seen: list[str] = []

    def train(self, mode: bool = True) -> FakeCLIP:
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.image_tokens(images).embedding

    def image_tokens(self, images: Tensor, layers: Sequence[int] = ()) -> SimpleNamespace:
        pixels = images / 255 if images.dtype == torch.uint8 else images
        pixels = F.adaptive_avg_pool2d(pixels - self.mean, self.image_size)
        patches = self.patch(4 * pixels).flatten(2).transpose(1, 2)
        sequence = torch.cat([self.class_token.expand(images.shape[0], 1, -1), patches], 1) + self.position
        tokens = self.after(self.layers(self.before(sequence)))
        return SimpleNamespace(embedding=self.project(tokens[:, 0]), patches=tokens[:, 1:], sequence=sequence)

    def encode_windows(self, sequence: Tensor, windows: Tensor) -> Tensor:
        rows = torch.cat([torch.zeros(len(windows), 1, dtype=torch.int64), windows + 1], 1)
        tokens = self.after(self.layers(self.before(sequence[:, rows].flatten(0, 1))))
        return self.project(tokens[:, 0]).unflatten(0, (-1, len(windows)))

    def project(self, tokens: Tensor) -> Tensor:
        return tokens @ self.projection

    def encode_text_raw(self, prompts: Sequence[str]) -> Tensor:
        self.prompts_seen.extend(prompts)
        return torch.stack([self._text(prompt) for prompt in prompts])

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        return F.normalize(self.encode_text_raw(prompts), dim=1)

    def _text(self, prompt: str) -> Tensor:
        words = [torch.Generator().manual_seed(zlib.crc32(word.encode())) for word in prompt.strip(".").split()]
        return sum(torch.randn(self.embed_dim, generator=word) for word in words)

    def describe(self) -> dict[str, object]:
        return {"name": self.name, "weights": self.weights, "sha256": self.sha256, "precision": "float32"}

    def encoding(self) -> dict[str, object]:
        return {"name": self.name, "sha256": self.sha256}
