"""Reading of images, masks and tiles for one preprocessing: decoded and resized, or from the image cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image, features
from torch import Tensor

from anoframe.data.ignored import IgnoredRegion
from anoframe.data.image_decoding import open_image, read_image, reduce_jpeg, to_rgb, upright_size
from anoframe.data.masks import (
    DEFAULT_MASKS,
    MaskSettings,
    empty_mask,
    join_masks,
    mask_files,
    mask_orientation,
    resize_mask,
    size_mismatch,
)
from anoframe.data.preprocessing import Preprocessing
from anoframe.data.synthetic_samples import SyntheticImages
from anoframe.data.tiling import TileSample, Tiling, cut_samples
from anoframe.errors import AnoframeError
from anoframe.types import Sample
from anoframe.utils.files import digest
from anoframe.utils.tensor_cache import TensorCache, cache_key

_FORMAT = 1  # of cache entries: increase it if the same file would give other tensors
_MOST_COUNTED = 256  # image sizes whose counted pixels are kept
_DECODERS = [PIL.__version__, features.version("jpg")]


class LoadedImage(NamedTuple):
    """An image file as tensor."""

    pixels: Tensor  # uint8 [3, H, W]
    size: tuple[int, int]  # width and height of the original image, upright
    key: str | None  # of content and preprocessing, independent of the file name; None if the file was not read


class Reader:
    """Reads image files and masks for one preprocessing.

    Args:
        preprocessing: resize and crop.
        cache: stores the tensors of files; None decodes every file each time.
        masks: how masks are read.
        tiling: cuts images into tiles; None: no tiles.
        ignored: category -> its ignored region.
        synthetic: makes the images of synthetic samples; None for data without them.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        cache: TensorCache | None = None,
        masks: MaskSettings = DEFAULT_MASKS,
        tiling: Tiling | None = None,
        ignored: Mapping[str, IgnoredRegion] | None = None,
        synthetic: SyntheticImages | None = None,
    ):
        self.preprocessing = preprocessing
        self.cache = cache
        self.masks = masks
        self.tiling, self.ignored = tiling, dict(ignored or {})
        self._synthetic = synthetic
        self._windows = tiling.windows(preprocessing.size) if tiling else []
        self._last: tuple[Sample, LoadedImage] | None = None  # the image of the last tile: the next is mostly of it too
        self._keys: dict[tuple[Sample, int, int], str | None] = {}  # sample, time and size of its file -> key
        self._counted: dict[tuple[str, int, int], Tensor] = {}  # category, width and height -> counted pixels
        settings = preprocessing.settings()
        if preprocessing.interpolation == "bilinear":  # the only one of earlier versions: their entries stay valid
            del settings["interpolation"]
        self._recipe = cache_key(_FORMAT, settings, _DECODERS)

    def key(self, path: Path) -> str | None:
        """Return the key that `image` would return for this file."""
        return self._key("image", _read_content(path))

    def image(self, path: Path) -> LoadedImage:
        """Read an image, resized and cropped.

        Raises:
            AnoframeError: as `anoframe.data.image_decoding.read_image`.
        """
        data = _read_content(path)  # read once, so that key and pixels match even if the file is replaced meanwhile
        key = self._key("image", data)
        entry = self._from_cache(key, ["image", "size"])
        if entry is None:
            image, size = self._decode(path, data)
            entry = {"image": to_tensor(image, self.preprocessing, size), "size": torch.tensor(size)}
            self._to_cache(key, entry)
        width, height = entry["size"].tolist()
        return LoadedImage(entry["image"], (width, height), key)

    def mask(self, sample: Sample, image_size: tuple[int, int] | None = None) -> Tensor:
        """Read the mask of a sample, or of its tile, as bool [1, H, W], all False for a sample without a mask.

        Args:
            sample: with or without a mask.
            image_size: width and height of the original image; by default they are read from the image file.

        Raises:
            AnoframeError: as `anoframe.data.masks.join_masks`, and for a mask of another size than its image.
        """
        if isinstance(sample, TileSample):
            rows, columns = self._windows[sample.tile].slices
            return self.mask(sample.whole, image_size)[:, rows, columns].contiguous()
        if sample.mask is None:
            return torch.from_numpy(empty_mask(self.preprocessing))[None]
        files = mask_files(sample.mask)
        contents = [_read_content(file) for file in files]
        orientation = mask_orientation(sample.image, self.masks)
        key = self._key(f"mask {self.masks.rule} {orientation}", *contents)
        entry = self._from_cache(key, ["mask", "size"])
        if entry is None:
            original = join_masks(files, contents, orientation)
            resized = torch.from_numpy(resize_mask(original, self.preprocessing, self.masks.rule))[None]
            entry = {"mask": resized, "size": torch.tensor(original.shape[::-1])}
            self._to_cache(key, entry)
        width, height = entry["size"].tolist()
        image_size = image_size or _image_size(sample.image, (width, height))
        if image_size != (width, height):
            raise AnoframeError(size_mismatch(sample.mask, (width, height), sample.image, image_size))
        return entry["mask"]

    # ------------------------------------------------------------------------------------------------ tiles

    def cut(self, samples: Sequence[Sample]) -> list[Sample]:
        """List the tiles of samples; the samples themselves without tiling, or if a tile is the whole image."""
        return cut_samples(list(samples), max(1, len(self._windows)))

    def sample_key(self, sample: Sample) -> str | None:
        """Return the key that `sample` would return for a sample."""
        if not isinstance(sample, TileSample):
            return self._synthetic_of(sample).key(sample, self) if sample.synthetic else self.key(sample.image)
        with suppress(OSError):
            stat = sample.image.stat()
            whole = sample.whole
            identity = whole, stat.st_mtime_ns, stat.st_size
            if identity not in self._keys:  # reading the file once for each of its tiles would take too long
                self._keys[identity] = self.sample_key(whole)
            return self._tile_key(self._keys[identity], sample)
        return None

    def sample(self, sample: Sample) -> LoadedImage:
        """Read the image of a sample, resized and cropped, or its tile; make it if it is synthetic.

        Raises:
            AnoframeError: as `image`, and from the generator of synthetic defects.
        """
        if not isinstance(sample, TileSample):
            return self._make(sample) if sample.synthetic else self.image(sample.image)
        whole = sample.whole
        if self._last is None or self._last[0] != whole or sample.tile == 0:
            self._last = whole, self.sample(whole)
        loaded = self._last[1]
        rows, columns = self._windows[sample.tile].slices
        pixels = loaded.pixels[:, rows, columns].contiguous()
        return LoadedImage(pixels, loaded.size, self._tile_key(loaded.key, sample))

    def _synthetic_of(self, sample: Sample) -> SyntheticImages:
        assert self._synthetic is not None, f"the synthetic sample {sample.name} needs a reader with its generator"
        return self._synthetic

    def _make(self, sample: Sample) -> LoadedImage:
        """Make the image of a synthetic sample from that of its normal one."""
        synthetic = self._synthetic_of(sample)
        key = synthetic.key(sample, self)
        entry = self._from_cache(key, ["image", "size"])
        if entry is None:
            original = self.image(sample.image)
            entry = {"image": synthetic.make(sample, original, self), "size": torch.tensor(original.size)}
            self._to_cache(key, entry)
        width, height = entry["size"].tolist()
        return LoadedImage(entry["image"], (width, height), key)

    def _tile_key(self, key: str | None, sample: TileSample) -> str | None:
        return key and cache_key("tile", key, self._windows[sample.tile])

    def counted(self, samples: Sequence[Sample]) -> Tensor | None:
        """Return which pixels of images or tiles count, bool [B, 1, H, W]; None if all of them do.

        Padding and ignored regions do not count.

        Raises:
            AnoframeError: the size of an image cannot be read, or no pixel of it counts.
        """
        if not self.preprocessing.pads and not any(sample.category in self.ignored for sample in samples):
            return None
        return torch.stack([self._counted_of(sample) for sample in samples])

    def _counted_of(self, sample: Sample) -> Tensor:
        with open_image(sample.image) as image:
            width, height = upright_size(image)
        key = sample.category, width, height
        if key not in self._counted:
            if len(self._counted) >= _MOST_COUNTED:
                self._counted.clear()
            region = self.ignored.get(sample.category)
            self._counted[key] = torch.from_numpy(count_pixels(width, height, self.preprocessing, region))[None]
        counted = self._counted[key]
        if not isinstance(sample, TileSample):
            return counted
        rows, columns = self._windows[sample.tile].slices
        return counted[:, rows, columns]

    def _decode(self, path: Path, data: bytes | None) -> tuple[Image.Image, tuple[int, int]]:
        """Return the upright image, possibly decoded at a reduced size, and the size of the original."""
        with open_image(path, data) as file:
            if self.preprocessing.jpeg_draft and file.format in ("JPEG", "MPO"):
                size = reduce_jpeg(file, *self.preprocessing.least_sides(*upright_size(file)))
                return to_rgb(file, path), size
            image = to_rgb(file, path)
            return image, image.size

    def _key(self, kind: str, *contents: bytes | None) -> str | None:
        digests = [digest(data) for data in contents if data is not None]
        return cache_key(kind, *digests, self._recipe) if digests and len(digests) == len(contents) else None

    def _from_cache(self, key: str | None, names: list[str]) -> dict[str, Tensor] | None:
        return self.cache.read(key, names) if self.cache and key else None

    def _to_cache(self, key: str | None, tensors: dict[str, Tensor]) -> None:
        if self.cache and key:
            self.cache.write(key, tensors)


def count_pixels(
    width: int, height: int, preprocessing: Preprocessing, region: IgnoredRegion | None
) -> NDArray[np.bool_]:
    """Return which pixels [H, W] of a preprocessed image of this size count: not padding, and not ignored.

    Raises:
        AnoframeError: none counts.
    """
    counted = preprocessing.counted(width, height)
    if region is not None:
        counted &= ~region.preprocessed(width, height, preprocessing)
    if not counted.any():
        raise AnoframeError(
            f"data.ignore leaves no pixel of an image of {width} x {height}: make the ignored region smaller"
        )
    return counted


def to_tensor(image: Image.Image, preprocessing: Preprocessing, full_size: tuple[int, int] | None = None) -> Tensor:
    """Convert an RGB image to uint8 [3, H, W]; `full_size` as in `Preprocessing.resize_and_crop`."""
    pixels = preprocessing.to_array(image, full_size)
    # NumPy makes the copy: torch would start all of its threads for it.
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _read_content(path: Path) -> bytes | None:
    """Read the bytes of a file; None if that fails: decoding the file then raises the error with its reason."""
    with suppress(OSError):
        if path.is_file():  # reading a pipe would wait forever
            return path.read_bytes()
    return None


def _image_size(path: Path, expected: tuple[int, int]) -> tuple[int, int]:
    """Return width and height of an image from its header, or from its pixels if the header differs from `expected`."""
    with open_image(path) as image:
        size = upright_size(image)
    return size if size == expected else read_image(path).size
