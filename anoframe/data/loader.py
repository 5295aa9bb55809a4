"""Batches of tensors from samples, and tensors of single new images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from anoframe.data.cached_reader import Reader, count_pixels, to_tensor
from anoframe.data.ignored import IgnoredRegion
from anoframe.data.image_decoding import array_to_pillow, to_rgb
from anoframe.data.preprocessing import Preprocessing
from anoframe.errors import AnoframeError
from anoframe.types import Batch, Sample
from anoframe.utils.parallel import map_in_threads
from anoframe.utils.tensor_cache import TensorCache

Item = tuple[Tensor, Tensor, Sample, str | None]  # image uint8 [3, H, W], mask bool [1, H, W], content key of the image


class SampleDataset(Dataset[Item]):
    """Torch dataset that reads samples as tensors.

    An item is `(image, mask, sample, key)`; the mask is all False for a sample without a mask. A file that cannot be
    read, or a mask of another size than its image, raises AnoframeError with the file name.
    """

    def __init__(self, samples: Sequence[Sample], reader: Reader) -> None:
        self.samples = list(samples)
        self.reader = reader

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Item:
        sample = self.samples[index]
        image = self.reader.sample(sample)
        return image.pixels, self.reader.mask(sample, image.size), sample, image.key


def make_loader(
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    batch_size: int,
    workers: int,
    shuffle: bool = False,
    seed: int = 0,
    cache: TensorCache | None = None,
) -> DataLoader[Any]:
    """Build a loader that yields `Batch`; the last batch may be smaller.

    Args:
        samples: at least one.
        preprocessing: resize and crop.
        batch_size: 1 or more.
        workers: number of decoding processes; 0 decodes in this process, -1 chooses a number for this machine. The
            values do not depend on it.
        shuffle: use another order in each pass; `seed` alone determines the sequence of orders.
        seed: of the order.
        cache: of images, see `Reader`.

    Raises:
        AnoframeError: no samples, or a number out of range; during iteration, a file that cannot be read.
    """
    check_loading(samples, batch_size, workers)
    return _Loader(
        _ErrorReturningDataset(samples, Reader(preprocessing, cache)),
        batch_size=batch_size,
        shuffle=shuffle,
        num_workers=num_workers(workers),
        collate_fn=_collate,
        generator=torch.Generator().manual_seed(seed),
    )


def load_batches(batches: Sequence[Sequence[Sample]], reader: Reader, workers: int) -> Iterator[Batch]:
    """Load the given batches in their order; `workers` and errors as in `make_loader`."""
    index = count()
    loader = _Loader(
        _ErrorReturningDataset([sample for batch in batches for sample in batch], reader),
        batch_sampler=[[next(index) for _ in batch] for batch in batches],
        num_workers=num_workers(workers),
        collate_fn=_collate,
        generator=torch.Generator(),
    )
    return iter(loader)


def check_loading(samples: Sequence[Sample], batch_size: int, workers: int) -> None:
    """Raise AnoframeError if there are no samples or a number is out of range."""
    if batch_size < 1 or workers < -1:
        raise AnoframeError(f"batch size {batch_size} must be 1 or more, and workers {workers} -1 or more")
    if not samples:
        raise AnoframeError("no samples to load; check the category and the split with tools/check_data.py")


class Photograph(NamedTuple):
    """A new image, preprocessed.

    Attributes:
        pixels: uint8 [3, H, W].
        counted: bool [1, H, W], pixels that are neither padding nor ignored; None: all count.
        size: width and height of the upright image.
    """

    pixels: Tensor
    counted: Tensor | None
    size: tuple[int, int]


def load_photograph(
    image: str | Path | Image.Image | np.ndarray, preprocessing: Preprocessing, ignored: IgnoredRegion | None = None
) -> Photograph:
    """Load a new image and the pixels of it that count.

    Args:
        image, preprocessing: as for `load_image`.
        ignored: the ignored region of its category.

    Raises:
        AnoframeError: as `load_image`, or no pixel counts.
    """
    if isinstance(image, str | os.PathLike):
        loaded = Reader(preprocessing).image(Path(image))
        pixels, size = loaded.pixels, loaded.size
    else:
        picture = _to_pillow(image)
        pixels, size = to_tensor(picture, preprocessing), picture.size
    if not preprocessing.pads and ignored is None:
        return Photograph(pixels, None, size)
    return Photograph(pixels, torch.from_numpy(count_pixels(*size, preprocessing, ignored))[None], size)


def load_image(image: str | Path | Image.Image | np.ndarray, preprocessing: Preprocessing) -> Tensor:
    """Load a new image as uint8 [3, H, W], in the same way as images of a dataset.

    Args:
        image: a file, a Pillow image, or a uint8 array [H, W], [H, W, 3] RGB or [H, W, 4] RGBA, whose alpha is dropped.
        preprocessing: resize and crop.

    Raises:
        AnoframeError: the file cannot be read, or the array or object is of another kind.
    """
    return load_photograph(image, preprocessing).pixels


def _to_pillow(image: object) -> Image.Image:
    """Convert an array or a Pillow image to an upright RGB image."""
    if isinstance(image, np.ndarray):
        return array_to_pillow(image)
    if isinstance(image, Image.Image):
        return to_rgb(image, getattr(image, "filename", "") or "image")
    raise AnoframeError(f"an image must be a path, a Pillow image or a NumPy array, got {type(image).__name__}")


def num_workers(workers: int) -> int:
    """Return the number of decoding processes; -1 chooses one for this machine, 0 is none."""
    if workers != -1:
        return workers
    # Without a GPU the backbone uses every core, and decoding processes would compete with it.
    return min(8, os.cpu_count() or 1) if torch.cuda.is_available() else 0


class _ErrorReturningDataset(SampleDataset):
    """Returns an error as a value: torch would raise it again with the traceback of the worker in its message."""

    def __getitems__(self, indices: list[int]) -> list[Item] | AnoframeError:
        try:
            if get_worker_info() is None:  # not one of several processes, so that there is a processor for each thread
                return map_in_threads(self.__getitem__, indices)
            return [self[index] for index in indices]
        except AnoframeError as error:
            return error


def _collate(items: list[Item] | AnoframeError) -> Batch | AnoframeError:
    if isinstance(items, AnoframeError):
        return items
    images, masks, samples, keys = zip(*items, strict=True)
    labels = torch.tensor([sample.is_defect for sample in samples])
    return Batch(torch.stack(images), torch.stack(masks), labels, samples, keys)


class _Loader(DataLoader[Any]):
    """Raises the errors that the dataset returns as values."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, AnoframeError):
                raise batch
            yield batch
