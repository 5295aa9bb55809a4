"""Small encoders for RAML, with text and without, and features of the shapes that it uses."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.models.base import TrainingBatch
from anoframe.models.raml.model import RAML
from anoframe.types import Sample

TILE = 8  # pixels


class TinyClip(nn.Module):
    """Embeds an image of 8 x 8 pixels with a random matrix, and a text as a random vector seeded by it."""

    has_text, embed_dim, image_size = True, 12, TILE

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.register_buffer("mean", torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.3, 0.4]).view(1, 3, 1, 1))
        self.register_buffer("matrix", torch.randn(3 * TILE**2, 12, generator=generator) / 14)
        self.seen: list[Tensor] = []  # normalised images of each call

    def forward(self, images: Tensor) -> Tensor:
        normalised = (images - self.mean) / self.std
        self.seen.append(normalised)
        return normalised.flatten(1) @ self.matrix

    def encode_text(self, prompts) -> Tensor:
        generators = [torch.Generator().manual_seed(zlib.crc32(prompt.encode())) for prompt in prompts]
        return F.normalize(torch.stack([torch.randn(12, generator=generator) for generator in generators]), dim=-1)

    def encoding(self):
        return {"name": "tiny"}


@pytest.fixture
def clip() -> TinyClip:
    return TinyClip()


@pytest.fixture
def raml(clip):
    """Builds a small RAML on the tiny CLIP."""

    def build(**settings) -> RAML:
        torch.manual_seed(0)
        pyramid = {"hidden": 16, "heads": 2} | settings.pop("pyramid", {})
        return RAML(clip, tile_size=TILE, pyramid=pyramid, **settings).eval()

    return build


@pytest.fixture
def features():
    """Random features of `count` images, of width 12."""

    def draw(count: int, seed: int = 0) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        shapes = {"scale1": (12,), "scale2": (4, 12), "scale3": (16, 12)}
        return {name: torch.randn(count, *shape, generator=generator) for name, shape in shapes.items()}

    return draw


@pytest.fixture
def batch(features):
    """A training batch; `labels` has one character per image: g for good, d for a defect."""

    def build(labels: str = "ggdgdggd", categories=("bottle", "screw"), seed: int = 0) -> TrainingBatch:
        samples = tuple(
            Sample(Path(f"{i}.png"), categories[i % len(categories)], "train", "good" if label == "g" else "scratch")
            for i, label in enumerate(labels)
        )
        return TrainingBatch(features(len(labels), seed), samples, torch.arange(len(labels)))

    return build
