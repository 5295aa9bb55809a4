"""Indexed images of any origin: files, arrays in memory, and unions and parts of them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from anoframe.data.cached_reader import Reader, to_tensor
from anoframe.data.file_checks import THREADS
from anoframe.errors import AnoframeError
from anoframe.types import Sample


class LabelledImages(ABC):
    """Images in a fixed order, each with a sample whose category is its class.

    Attributes:
        samples: in the order of the index.
    """

    samples: tuple[Sample, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def sample(self, row: int) -> Sample:
        """Return the sample of image `row`."""
        return self.samples[row]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, sorted."""
        return tuple(sorted({sample.category for sample in self.samples}))

    @abstractmethod
    def pixels(self, row: int) -> Tensor:
        """Return image `row`, resized and cropped, as uint8 `[3, H, W]`."""

    @abstractmethod
    def content(self, row: int) -> bytes:
        """Return what identifies image `row`: the bytes of its file, or its pixels in memory with their shape."""

    def num_bytes(self, row: int) -> int:
        """Return the size of image `row`: of its file, or of its pixels in memory."""
        return len(self.content(row))

    def hashes(self) -> list[str]:
        """Compute the SHA-256 of the content of each image."""
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(lambda row: hashlib.sha256(self.content(row)).hexdigest(), range(len(self))))


class ImageFiles(LabelledImages):
    """Image files.

    Args:
        samples: in the order of the index.
        reader: reads them.
    """

    def __init__(self, samples: Sequence[Sample], reader: Reader):
        self.samples, self._reader = tuple(samples), reader

    def pixels(self, row: int) -> Tensor:
        return self._reader.image(self.samples[row].image).pixels

    def content(self, row: int) -> bytes:
        path = self.samples[row].image
        try:
            return path.read_bytes()
        except OSError as error:
            raise AnoframeError(f"{path} cannot be read: {error.strerror}; check its permissions") from error


class ImageArrays(LabelledImages):
    """Images in memory.

    Args:
        arrays: uint8 `[N, H, W, 3]`, RGB.
        classes: class of each image.
        source: file that they come from; names an image `<source>/<row>`.
        split: of the samples.
        reader: its preprocessing is applied.
    """

    def __init__(self, arrays: NDArray[np.uint8], classes: Sequence[str], source: Path, split: str, reader: Reader):
        if arrays.dtype != np.uint8 or arrays.ndim != 4 or arrays.shape[3] != 3 or len(arrays) != len(classes):
            raise AnoframeError(
                f"{source}: images must be uint8 [N, H, W, 3] with N labels, got {arrays.dtype} "
                f"{list(arrays.shape)} and {len(classes)} labels"
            )
        self._arrays, self._preprocessing = arrays, reader.preprocessing
        self.samples = tuple(Sample(source / f"{row:06d}", name, split) for row, name in enumerate(classes))

    def pixels(self, row: int) -> Tensor:
        return to_tensor(Image.fromarray(self._arrays[row]), self._preprocessing)

    def content(self, row: int) -> bytes:
        array = self._arrays[row]
        return repr(array.shape).encode() + np.ascontiguousarray(array).tobytes()

    def num_bytes(self, row: int) -> int:
        return int(self._arrays[row].nbytes)


class JoinedImages(LabelledImages):
    """The union of several sources, one after another."""

    def __init__(self, parts: Sequence[LabelledImages]):
        self._parts = list(parts)
        self._ends = list(accumulate(len(part) for part in parts))
        self.samples = tuple(sample for part in parts for sample in part.samples)

    def pixels(self, row: int) -> Tensor:
        part, own = self._locate(row)
        return part.pixels(own)

    def content(self, row: int) -> bytes:
        part, own = self._locate(row)
        return part.content(own)

    def num_bytes(self, row: int) -> int:
        part, own = self._locate(row)
        return part.num_bytes(own)

    def _locate(self, row: int) -> tuple[LabelledImages, int]:
        number = bisect_right(self._ends, row)
        return self._parts[number], row - (self._ends[number - 1] if number else 0)


class SelectedImages(LabelledImages):
    """Some images of a source.

    Args:
        images: the source.
        rows: positions in it, in the new order.
        workers: processes that draw views of them, for `anoframe.training.views`.
    """

    def __init__(self, images: LabelledImages, rows: Sequence[int], workers: int = 0):
        self._images, self._rows, self.workers = images, list(rows), workers
        self.samples = tuple(images.samples[row] for row in rows)

    def pixels(self, row: int) -> Tensor:
        return self._images.pixels(self._rows[row])

    def content(self, row: int) -> bytes:
        return self._images.content(self._rows[row])

    def num_bytes(self, row: int) -> int:
        return self._images.num_bytes(self._rows[row])


def manifest_hash(images: LabelledImages, hashes: Sequence[str]) -> str:
    """Compute the hash of the contents and classes of images, whatever their order and place."""
    rows = sorted(f"{sample.category}\0{content}" for sample, content in zip(images.samples, hashes, strict=True))
    return hashlib.sha256("\n".join(rows).encode("utf-8", "surrogateescape")).hexdigest()


def describe(images: LabelledImages) -> dict[str, Any]:
    """Return the number of images and of classes."""
    return {"images": len(images), "classes": len(images.classes)}
