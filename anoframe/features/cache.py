"""Disk cache of features: keys, entries, and the check that they fit into `cache.max_gb`.

One entry holds the features of one image. Its key is a hash of everything the features depend on: the content of the
image file and its preprocessing (see anoframe/data/reader.py), the encoder, and the software and hardware that round.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import torch

import anoframe
from anoframe.features.tree import FlatFeatures
from anoframe.models.base import Detector
from anoframe.tracking.tracker import Tracker
from anoframe.utils.parallel import map_in_threads
from anoframe.utils.tensor_cache import TensorCache, cache_key

_FORMAT = 1  # of the entries: raise it if the code extracts other features from the same image


class FeatureCache:
    """Cached features of one detector's encoder.

    Args:
        cache: folder of the entries.
        detector: on its device.
        encoding: see `find_encoding`.
        tracker: receives a message when entries are about to be written.
    """

    def __init__(self, cache: TensorCache, detector: Detector, encoding: Sequence[Any], tracker: Tracker):
        self._cache, self._tracker = cache, tracker
        self._recipe = cache_key(_FORMAT, encoding, environment(next(detector.buffers()).device))
        self._num_missing = self._num_images = 0
        self._has_room: bool | None = None  # None: unknown until the first features of a pass are known

    @property
    def is_full(self) -> bool:
        """Whether the missing features of this pass were found to exceed `cache.max_gb`."""
        return self._has_room is False

    def key(self, image: str | None, batch_size: int) -> str | None:
        """Key of the features of an image.

        Args:
            image: key of the preprocessed image; None if the file cannot be read, and then there is no key.
            batch_size: number of images that are encoded together.
        """
        return image and cache_key(image, self._recipe, batch_size)

    def start_pass(self, num_missing: int, num_images: int) -> None:
        """Start a pass over `num_images` images, of which `num_missing` must be encoded."""
        self._num_missing, self._num_images, self._has_room = num_missing, num_images, None

    def add_missing(self, count: int) -> None:
        """Count images whose entries turned out to be damaged or removed during the pass."""
        self._num_missing += count

    def log_if_complete(self) -> None:
        """Log that no image of the pass must be encoded, if that is so."""
        if not self._num_missing:
            self._log(f"features of all {self._num_images} images are cached: no encoder pass")

    def __contains__(self, key: str | None) -> bool:
        return key is not None and key in self._cache

    def read(self, key: str | None) -> FlatFeatures | None:
        """Features of an image; None if there is no complete entry."""
        return self._cache.read(key) if key else None

    def write(self, features: Sequence[FlatFeatures], keys: Sequence[str | None]) -> None:
        """Write an entry for each image that has a key, if all missing images of the pass fit into the cache."""
        if self._has_room is None:
            self._check_room(sum(tensor.nbytes for tensor in features[0].values()))
        if self._has_room:
            entries = {key: image for image, key in zip(features, keys, strict=True) if key}  # equal files have one key
            map_in_threads(lambda entry: self._cache.write(*entry), entries.items())

    def _check_room(self, bytes_per_image: int) -> None:
        size = self._num_missing * bytes_per_image
        self._has_room = size <= self._cache.max_bytes
        text = f"{self._num_missing} of {self._num_images} images have no cached features: {size / 1e6:,.1f} MB "
        if self._has_room:
            self._log(text + f"will be written to {self._cache.folder}")
        else:
            self._log(text + "are more than cache.max_gb, so none is cached")

    def _log(self, text: str) -> None:
        self._tracker.log("features", text=text)


def open_feature_cache(cache: TensorCache | None, detector: Detector, tracker: Tracker) -> FeatureCache | None:
    """The feature cache of a detector; None if `cache` is None, or if the detector's features cannot be cached."""
    encoding = find_encoding(detector) if cache else None
    return FeatureCache(cache, detector, encoding, tracker) if cache and encoding else None


def find_encoding(detector: Detector) -> list[Any] | None:
    """What features depend on besides the image: class that extracts them, and its `encoding()`; None: not cacheable.

    The class is the most derived one with its own `encode` or `extract_features`. `encoding` must be defined by that
    class or by one derived from it: a description inherited from further up would describe other features.
    """
    encoder = _defining_class(detector, "encode", "extract_features")
    describer = _defining_class(detector, "encoding")
    description = detector.encoding() if issubclass(describer, encoder) else None
    return None if description is None else [encoder.__module__, encoder.__qualname__, description]


def _defining_class(detector: Detector, *names: str) -> type:
    """The most derived class of a detector that defines one of the methods."""
    return next(base for base in type(detector).__mro__ if any(name in vars(base) for name in names))


def environment(device: torch.device) -> list[Any]:
    """Everything besides image and encoder that rounding depends on: versions, processor, requested precision."""
    common = [anoframe.__version__, torch.__version__, torch.get_float32_matmul_precision(), device.type]
    if device.type == "cuda":
        options = torch.backends.cudnn.allow_tf32, torch.are_deterministic_algorithms_enabled()
        return [*common, torch.cuda.get_device_name(device), *options]
    return [*common, platform.machine(), torch.backends.cpu.get_cpu_capability()]
