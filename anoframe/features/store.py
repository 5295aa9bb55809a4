"""Features of all training images at once, to take any batch of: the encoder runs once, however many the epochs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod

import torch
from torch import Tensor

from anoframe.errors import AnoframeError
from anoframe.features.extraction import Encoded
from anoframe.models.base import Features, TrainingBatch
from anoframe.types import Sample
from anoframe.utils.memory import empty_or_memmap
from anoframe.utils.progress import progress


class FeatureStore:
    """Features of images in the order of the index.

    Memory: as many bytes as the features have. On a GPU they stay there where they take at most half of what is free;
    otherwise they are in memory, or where they would take more than half of it, in a file.

    Args:
        batches: of all images.
        images: how many they are.
        device: of the batches that it gives.

    Raises:
        AnoframeError: features that are neither a tensor nor a list of them, or no room.
    """

    def __init__(self, batches: Iterable[Encoded], images: int, device: torch.device):
        self._device = device
        self._levels: list[Tensor] = []
        self._listed = False
        self.samples: tuple[Sample, ...] = ()
        for batch in progress(batches, "encode", unit="batch"):
            self._take(batch, images)

    def __len__(self) -> int:
        return len(self.samples)

    def batches(self, rows: Sequence[int], batch_size: int) -> Iterator[TrainingBatch]:
        """The images of these places in the index, in this order."""
        return (self.batch(rows[i : i + batch_size]) for i in range(0, len(rows), batch_size))

    def batch(self, rows: Sequence[int], channels_last: bool = False) -> TrainingBatch:
        """The images of these places in the index, in this order.

        Args:
            channels_last: layout of feature maps in memory.
        """
        index = torch.tensor(rows, dtype=torch.int64)
        levels = [level[index.to(level.device)].to(self._device) for level in self._levels]
        if channels_last:
            levels = [one.contiguous(memory_format=torch.channels_last) if one.ndim == 4 else one for one in levels]
        features: Features = levels if self._listed else levels[0]
        return TrainingBatch(features, tuple(self.samples[row] for row in rows), index.to(self._device))

    def _take(self, batch: Encoded, images: int) -> None:
        features = batch.features
        if not isinstance(features, Tensor | list | tuple):
            raise AnoframeError("only features that are a tensor or a list of tensors can be trained on")
        levels = [features] if isinstance(features, Tensor) else list(features)
        if not self._levels:
            self._listed = not isinstance(features, Tensor)
            self._levels = self._empty(levels, images)
        start = len(self.samples)
        for kept, level in zip(self._levels, levels, strict=True):
            kept[start : start + len(level)] = level.to(kept.device)
        self.samples += tuple(batch.samples)

    def _empty(self, levels: Sequence[Tensor], images: int) -> list[Tensor]:
        """Room for all levels, in one piece, so that they are weighed against what is free together."""
        shapes = [(images, *level.shape[1:]) for level in levels]
        sizes = [prod(shape) for shape in shapes]
        if self._device.type == "cuda" and 4 * sum(sizes) <= torch.cuda.mem_get_info(self._device)[0] // 2:
            flat = torch.empty(sum(sizes), device=self._device)
        else:
            flat = empty_or_memmap((sum(sizes),), f"features of {images} training images")
        return [part.view(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]
