"""Batches of views: augmented images, or images with synthetic defects, drawn anew in each epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from anoframe.data.cached_reader import Reader
from anoframe.data.loader import num_workers
from anoframe.errors import AnoframeError
from anoframe.models.learner import ImageSource, TrainingBatch, Views
from anoframe.types import Sample

Plan = Iterable[tuple[int, Sequence[int]]]  # (epoch from 0, rows) of each batch, in the order in which they are used


class TrainingSource(ImageSource, Protocol):
    """An image source that a fit can train on.

    Attributes:
        samples: in the order of the index.
        workers: processes that draw views; the values do not depend on it.
    """

    @property
    def samples(self) -> Sequence[Sample]: ...

    @property
    def workers(self) -> int: ...


class TrainingImages:
    """The training images of a fit, read on demand (an `ImageSource`).

    Args:
        samples: in the order of the index.
        reader: reads them, resized and cropped, from its cache if it has one.
        workers: processes that draw views, as for `make_loader`; the values do not depend on it.
    """

    def __init__(self, samples: Sequence[Sample], reader: Reader, workers: int = 0):
        self.samples, self.workers = tuple(samples), workers
        self._reader = reader

    def __len__(self) -> int:
        return len(self.samples)

    def pixels(self, row: int) -> Tensor:
        """Read image `row` as uint8 `[3, H, W]`; raises AnoframeError if the file cannot be read."""
        return self._reader.sample(self.samples[row]).pixels

    def sample(self, row: int) -> Sample:
        """Return the sample of image `row`."""
        return self.samples[row]


class ViewSource:
    """Batches of views of the training images; the counterpart of a `FeatureStore`.

    The views of an image follow from seed, stage, epoch and row alone. Memory: one batch, and two batches per worker.

    Args:
        images: of the fit.
        draw: draws the views of one image.
        seed: of the fit.
        stage: index of the phase in the training stages.
        device: of the batches.
    """

    def __init__(self, images: TrainingSource, draw: Views, seed: int, stage: int, device: torch.device):
        self._images, self._device = images, device
        self._dataset = _ViewDataset(images, draw, (seed, stage))
        self._loaded: Iterator[Any] = iter(())
        self.samples = tuple(images.samples)

    def __len__(self) -> int:
        return len(self._images)

    def start(self, planned: Plan) -> None:
        """Begin to draw the planned batches, which `batch` then returns in this order."""
        workers = num_workers(self._images.workers)
        loader = DataLoader(
            self._dataset,
            batch_sampler=_Planned(planned),  # type: ignore[arg-type]
            num_workers=workers,
            collate_fn=_collate,
            generator=torch.Generator(),  # the loader would draw from the global generator, whose state is resumed
            pin_memory=self._device.type == "cuda",
        )
        self._loaded = iter(loader)

    def batch(self, rows: Sequence[int], epoch: int, channels_last: bool = False) -> TrainingBatch:
        """Return the next planned batch, which must be the views of these rows in this epoch.

        Args:
            rows: indices of the images.
            epoch: from 0.
            channels_last: memory layout of views `[B, C, H, W]`.
        """
        loaded = next(self._loaded)
        if isinstance(loaded, AnoframeError):
            raise loaded
        drawn_epoch, drawn_rows, views = loaded
        assert (drawn_epoch, drawn_rows) == (epoch, list(rows)), "batches are asked for in another order than planned"
        features = {name: self._to_device(values, channels_last) for name, values in views.items()}
        index = torch.tensor(drawn_rows, dtype=torch.int64, device=self._device)
        return TrainingBatch(features, tuple(self.samples[row] for row in drawn_rows), index)

    def _to_device(self, values: Tensor, channels_last: bool) -> Tensor:
        layout = torch.channels_last if channels_last and values.ndim == 4 else torch.contiguous_format
        return values.to(self._device, non_blocking=True, memory_format=layout)


class _Planned:
    """Batches of (epoch, row) pairs, as a sampler of a `DataLoader`."""

    def __init__(self, planned: Plan):
        self._planned = planned

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for epoch, rows in self._planned:
            yield [(epoch, row) for row in rows]


class _ViewDataset(Dataset[Any]):
    """Draws the views of (epoch, row); an error is returned: torch would wrap a raised one in a traceback."""

    def __init__(self, images: TrainingSource, draw: Views, seed: tuple[int, int]):
        self._images, self._draw, self._seed = images, draw, seed

    def __getitems__(self, pairs: Sequence[tuple[int, int]]) -> Any:
        epoch, rows = pairs[0][0], [row for _, row in pairs]
        try:
            return epoch, rows, [self._views(epoch, row) for row in rows]
        except AnoframeError as error:
            return error

    def _views(self, epoch: int, row: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((*self._seed, epoch, row))
        return dict(self._draw(self._images, row, rng))


def _collate(drawn: Any) -> Any:
    """Stack the views of a batch by name."""
    if isinstance(drawn, AnoframeError):
        return drawn
    epoch, rows, views = drawn
    return epoch, rows, {name: torch.stack([view[name] for view in views]) for name in views[0]}
