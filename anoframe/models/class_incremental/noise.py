"""Standard normal noise of Monte Carlo samples: new in training, fixed at a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from zlib import crc32

import numpy as np
import torch
from torch import Tensor


class Noise(Protocol):
    """Draws noise for classes."""

    def __call__(self, name: str, classes: range, shape: Sequence[int], device: torch.device) -> Tensor:
        """Return noise `[*shape, K, d]` for K classes; the last entry of `shape` is d."""


def draw_noise(name: str, classes: range, shape: Sequence[int], device: torch.device) -> Tensor:
    """Draw from torch's generator, which the trainer seeds and saves: the noise of training."""
    return torch.randn(*shape[:-1], len(classes), shape[-1], device=device)


class FixedNoise:
    """The noise of tests: it depends on seed, name, class and shape, and on neither the batch nor the other classes.

    Args:
        seed: of all noise.
    """

    def __init__(self, seed: int):
        self.seed = seed
        self._kept: dict[tuple[str, range, tuple[int, ...], torch.device], Tensor] = {}

    def __call__(self, name: str, classes: range, shape: Sequence[int], device: torch.device) -> Tensor:
        key = (name, classes, tuple(shape), device)
        if key not in self._kept:
            drawn = [self._of_class(name, place, shape) for place in classes]
            self._kept[key] = torch.stack(drawn, dim=-2).to(device)
        return self._kept[key]

    def _of_class(self, name: str, place: int, shape: Sequence[int]) -> Tensor:
        seed = np.random.SeedSequence((self.seed, crc32(name.encode()), place)).generate_state(1)[0]
        return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(int(seed)))
