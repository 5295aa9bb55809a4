"""Images and masks as a backbone sees them: decoded and resized, or taken from the cache of those that once were."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import torch
from PIL import Image, features
from torch import Tensor

from anoframe.data.images import opened, read_image, read_mask, reduce_jpeg, to_rgb, upright_size
from anoframe.data.transforms import Preprocessing
from anoframe.errors import AnoframeError
from anoframe.types import Sample
from anoframe.utils.files import digest
from anoframe.utils.tensor_cache import Cache, key_of

_FORMAT = 1  # of the entries: raise it when the same file would give other tensors
_DECODERS = [PIL.__version__, features.version("jpg")]


class Photograph(NamedTuple):
    """An image file that was read."""

    pixels: Tensor  # uint8 [3, crop, crop]
    size: tuple[int, int]  # width and height of the whole photograph, upright
    key: str | None  # of its content and preprocessing, whatever its name; None: not known


class Reader:
    """Reads image files for one preprocessing.

    Args:
        cache: where the tensors of files that were read before are; None decodes every time.
    """

    def __init__(self, preprocessing: Preprocessing, cache: Cache | None = None):
        self.preprocessing = preprocessing
        self.cache = cache
        self._recipe = key_of(_FORMAT, asdict(preprocessing), _DECODERS)

    def key(self, path: Path) -> str | None:
        """The key that `image` would give."""
        return self._key("image", _content(path))

    def image(self, path: Path) -> Photograph:
        """A photograph, resized and cropped.

        Raises AnoframeError as `anoframe.data.images.read_image` does.
        """
        data = _content(path)  # read once: the key is that of what is decoded, whoever replaces the file meanwhile
        key = self._key("image", data)
        found = self._cached(key, ["image", "size"])
        if found is None:
            image, size = self._decode(path, data)
            found = {"image": to_tensor(image, self.preprocessing, size), "size": torch.tensor(size)}
            self._keep(key, found)
        width, height = found["size"].tolist()
        return Photograph(found["image"], (width, height), key)

    def mask(self, sample: Sample, size: tuple[int, int] | None = None) -> Tensor:
        """The ground truth as bool [1, crop, crop], all False where the sample has none.

        Args:
            size: of its photograph; by default what the head of that file says.

        Raises AnoframeError as `anoframe.data.images.read_mask` does, and for a mask of another size than its image.
        """
        if sample.mask is None:
            return torch.zeros((1, 1, 1), dtype=torch.bool).expand(1, self.preprocessing.crop, self.preprocessing.crop)
        data = _content(sample.mask)
        key = self._key("mask", data)
        found = self._cached(key, ["mask", "size"])
        if found is None:
            drawn = read_mask(sample.mask, data)
            mask = torch.from_numpy(self.preprocessing.mask(drawn))[None]
            found = {"mask": mask, "size": torch.tensor(drawn.shape[::-1])}
            self._keep(key, found)
        width, height = found["size"].tolist()
        size = size or _size(sample.image, (width, height))
        if size != (width, height):
            sizes = f"{width} x {height} pixels, its image {sample.image} {size[0]} x {size[1]}"
            raise AnoframeError(f"{sample.mask}: {sizes}; draw it on the image")
        return found["mask"]

    def _decode(self, path: Path, data: bytes | None) -> tuple[Image.Image, tuple[int, int]]:
        """The upright photograph, perhaps a reduced one, and the size of the whole."""
        with opened(path, data) as file:
            if self.preprocessing.jpeg_draft and file.format in ("JPEG", "MPO"):
                size = reduce_jpeg(file, self.preprocessing.resize)
                return to_rgb(file, path), size
            image = to_rgb(file, path)
            return image, image.size

    def _key(self, kind: str, data: bytes | None) -> str | None:
        return None if data is None else key_of(kind, digest(data), self._recipe)

    def _cached(self, key: str | None, names: list[str]) -> dict[str, Tensor] | None:
        return self.cache.read(key, names) if self.cache and key else None

    def _keep(self, key: str | None, tensors: dict[str, Tensor]) -> None:
        if self.cache and key:
            self.cache.write(key, tensors)


def to_tensor(image: Image.Image, preprocessing: Preprocessing, size: tuple[int, int] | None = None) -> Tensor:
    """An RGB image as uint8 [3, crop, crop]; `size` as for `Preprocessing.image`."""
    pixels = preprocessing.image(image, size)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))  # torch would wake all of its threads


def _content(path: Path) -> bytes | None:
    """The bytes of a file; None where they cannot be read, and whoever decodes it will say why."""
    with suppress(OSError):
        if path.is_file():  # a pipe would be waited for
            return path.read_bytes()
    return None


def _size(path: Path, expected: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a photograph by its head, and by its pixels where the head is not as expected."""
    with opened(path) as image:
        size = upright_size(image)
    return size if size == expected else read_image(path).size
