"""Training images in memory, for phases with views."""

from __future__ import annotations

from pathlib import Path

import torch

from anoframe.types import GOOD, Sample


class MemoryImages:
    """Random smooth images [3, side, side], with the interface of `anoframe.training.views.TrainingImages`.

    Args:
        count, side, seed: number, side in pixels and seed of the images.
        categories: of the images, in turn.
        defects: positions of images that are defects.
        workers: processes that draw views.
    """

    def __init__(self, count=8, side=40, seed=0, categories=("class0", "class1"), defects=(), workers=0):
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.rand(count, 3, 5, 5, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
        self._pixels = (255 * smooth).to(torch.uint8)
        self.workers = workers
        self.samples = tuple(
            Sample(Path(f"{i}.png"), categories[i % len(categories)], "train", "cut" if i in defects else GOOD)
            for i in range(count)
        )

    def __len__(self):
        return len(self.samples)

    def pixels(self, row):
        return self._pixels[row]

    def sample(self, row):
        return self.samples[row]
