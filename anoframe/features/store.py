"""Features of all training images at once, for any batch of them: the encoder runs once, whatever the epochs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod

import torch
from torch import Tensor

from anoframe.features.extraction import FeatureBatch
from anoframe.features.tree import FlatFeatures, flatten, unflatten
from anoframe.models.base import TrainingBatch
from anoframe.types import Sample
from anoframe.utils.memory import empty_or_memmap
from anoframe.utils.progress import progress


class FeatureStore:
    """Features of images in the order of the index, as float32.

    Memory: the size of the features. On a GPU they are stored there if they take at most half of its free memory;
    otherwise in main memory, or in a file if they would take more than half of the free main memory.

    Args:
        batches: features of all images.
        num_images: number of images in all batches.
        device: of the batches that the store returns.

    Raises:
        AnoframeError: neither memory nor disk has enough space.
    """

    def __init__(self, batches: Iterable[FeatureBatch], num_images: int, device: torch.device):
        self._device = device
        self._tensors: FlatFeatures = {}
        self.samples: tuple[Sample, ...] = ()
        for batch in progress(batches, "encode", unit="batch"):
            self._add(batch, num_images)

    def __len__(self) -> int:
        return len(self.samples)

    def batches(self, rows: Sequence[int], batch_size: int) -> Iterator[TrainingBatch]:
        """Batches of the images with these indices, in this order."""
        return (self.batch(rows[i : i + batch_size]) for i in range(0, len(rows), batch_size))

    def start(self, planned: Iterable[tuple[int, Sequence[int]]]) -> None:
        """Do nothing: all features are at hand; `ViewSource` prepares the planned batches."""

    def batch(self, rows: Sequence[int], epoch: int = 0, channels_last: bool = False) -> TrainingBatch:
        """A batch of the images with these indices, in this order.

        Args:
            rows: indices of the images.
            epoch: makes no difference to features.
            channels_last: memory layout of feature maps.
        """
        index = torch.tensor(rows, dtype=torch.int64)
        tensors = {name: stored[index.to(stored.device)].to(self._device) for name, stored in self._tensors.items()}
        if channels_last:
            tensors = {name: _to_channels_last(tensor) for name, tensor in tensors.items()}
        return TrainingBatch(unflatten(tensors), tuple(self.samples[row] for row in rows), index.to(self._device))

    def _add(self, batch: FeatureBatch, num_images: int) -> None:
        tensors = flatten(batch.features)
        if not self._tensors:
            self._tensors = self._allocate(tensors, num_images)
        start = len(self.samples)
        for name, stored in self._tensors.items():
            stored[start : start + len(batch)] = tensors[name].to(stored.device)
        self.samples += tuple(batch.samples)

    def _allocate(self, tensors: FlatFeatures, num_images: int) -> FlatFeatures:
        """Allocate all tensors as one block, so that their total size is compared with the free memory."""
        shapes = [(num_images, *tensor.shape[1:]) for tensor in tensors.values()]
        sizes = [prod(shape) for shape in shapes]
        if self._device.type == "cuda" and 4 * sum(sizes) <= torch.cuda.mem_get_info(self._device)[0] // 2:
            block = torch.empty(sum(sizes), device=self._device)
        else:
            block = empty_or_memmap((sum(sizes),), f"features of {num_images} training images")
        parts = zip(tensors, block.split(sizes), shapes, strict=True)
        return {name: part.view(shape) for name, part, shape in parts}


def _to_channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
