"""Features of samples, read from the cache or extracted with the detector's encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from anoframe.data.cached_reader import Reader
from anoframe.data.file_checks import THREADS
from anoframe.data.loader import check_loading, load_batches
from anoframe.data.tiling import Tiling
from anoframe.distributed.process_group import Group
from anoframe.errors import AnoframeError
from anoframe.features.cache import open_feature_cache
from anoframe.features.tree import FlatFeatures, first_infinite, flatten, join_images, split_images, unflatten
from anoframe.models.base import Detector, Features
from anoframe.tracking.tracker import Tracker
from anoframe.types import Batch, Sample
from anoframe.utils.progress import progress
from anoframe.utils.tensor_cache import TensorCache


@dataclass(frozen=True)
class FeatureBatch:
    """Features of a batch.

    Attributes:
        features: of the images.
        masks: `[B, 1, H, W]` bool, all False for a sample without a mask.
        samples: in the order of the features.
        counted: `[B, 1, H, W]` bool, False for padding and ignored pixels; None: all pixels count.
        tiling: of the images that the samples are tiles of.
    """

    features: Features
    masks: Tensor
    samples: tuple[Sample, ...]
    counted: Tensor | None = None
    tiling: Tiling | None = None

    def __len__(self) -> int:
        return len(self.samples)


class FeatureLoader:
    """Batches of features in the order of the samples, extracted during iteration.

    An image with cached features is neither decoded nor encoded, and newly extracted features are cached. Cached and
    new features are equal to the bit. On a CPU each image is encoded alone (see `Detector.encode`); on other devices
    features may depend on the batch size, so there the key contains it.

    Args:
        detector: whose encoder is used; on its device.
        samples: whose features are loaded.
        reader: reads and preprocesses the images.
        batch_size: images per batch.
        workers: as for `make_loader`.
        tracker: receives messages about cached features, and the size of new entries before they are written.
        cache: of features. None, or a detector whose features cannot be cached: every pass encodes all images.

    Raises:
        AnoframeError: as `make_loader`.
    """

    def __init__(
        self,
        detector: Detector,
        samples: Sequence[Sample],
        reader: Reader,
        batch_size: int,
        workers: int,
        tracker: Tracker,
        cache: TensorCache | None = None,
    ):
        check_loading(samples, batch_size, workers)
        self._samples, self._batch_size, self._workers = tuple(samples), batch_size, workers
        self._detector, self._device = detector, next(detector.buffers()).device
        self._reader = reader
        self._cache = open_feature_cache(cache, detector, tracker)
        self._encodes_alone = self._device.type == "cpu"

    def __len__(self) -> int:
        return -(-len(self._samples) // self._batch_size)

    @property
    def num_images(self) -> int:
        """Number of images, or of tiles, in all batches."""
        return len(self._samples)

    def prepare(self, group: Group) -> None:
        """Cache all missing features before they are read; each process of a machine encodes a share of them.

        So no image is encoded twice on a machine by processes that all read all features. A single process, and one
        without a cache, does nothing.
        """
        if group.is_single or self._cache is None:
            return
        _, _, missing = self._plan()
        group.barrier()  # all processes must know what is missing before one writes, or their shares would differ
        own = [samples for samples in missing if samples][group.local_rank :: group.local_size]
        for batch in progress(load_batches(own, self._reader, self._workers), "encode", "batch", len(own)):
            if self._cache.is_full:  # known after the first batch: nothing will be cached
                break
            self._extract(batch)
        group.barrier()

    def __iter__(self) -> Iterator[FeatureBatch]:
        batches, keys, missing = self._plan()
        if self._cache:
            self._cache.log_if_complete()
        loaded = load_batches([samples for samples in missing if samples], self._reader, self._workers)
        for samples, sample_keys, to_encode in zip(batches, keys, missing, strict=True):
            extracted = self._extract(next(loaded)) if to_encode else None
            if extracted is None or len(extracted) < len(samples):
                extracted = self._complete(extracted, samples, sample_keys)
            yield replace(extracted, counted=self._reader.counted(samples), tiling=self._reader.tiling)

    # ------------------------------------------------------------------------------------------------ planning

    def _plan(self) -> tuple[list[Sequence[Sample]], list[Sequence[str | None]], list[Sequence[Sample]]]:
        """Samples of each batch, their keys, and the samples of each batch that must be encoded."""
        batches = list(self._split(self._samples))
        keys = list(self._split(self._keys()))
        missing = [self._missing(samples, names) for samples, names in zip(batches, keys, strict=True)]
        if self._cache:
            self._cache.start_pass(sum(map(len, missing)), len(self._samples))
        return batches, keys, missing

    def _split(self, items: Sequence[Any]) -> Iterator[Sequence[Any]]:
        return (items[i : i + self._batch_size] for i in range(0, len(items), self._batch_size))

    def _keys(self) -> list[str | None]:
        """One key per sample; None without a cache, or for a file that cannot be read."""
        if self._cache is None:
            return [None] * len(self._samples)
        sizes = [len(samples) for samples in self._split(self._samples) for _ in samples]
        with ThreadPoolExecutor(THREADS) as pool:  # disks serve many readers faster than one
            images = pool.map(self._reader.sample_key, self._samples)
            return list(map(self._key, images, sizes))

    def _key(self, image: str | None, batch_size: int) -> str | None:
        assert self._cache is not None
        return self._cache.key(image, 1 if self._encodes_alone else batch_size)

    def _missing(self, samples: Sequence[Sample], keys: Sequence[str | None]) -> Sequence[Sample]:
        """Samples of a batch that must be encoded: those without an entry, or the whole batch on a GPU."""
        if self._cache is None:
            return samples
        missing = [sample for sample, key in zip(samples, keys, strict=True) if key not in self._cache]
        return missing if self._encodes_alone or not missing else samples

    # ------------------------------------------------------------------------------------------------ extraction

    def _extract(self, batch: Batch) -> FeatureBatch:
        """Encode a batch, and cache its features."""
        with torch.no_grad():
            features = unflatten(flatten(self._detector.encode(batch.images.to(self._device))))
        _check_finite(features, batch)
        if self._cache:
            self._cache.write(split_images(features), [self._key(key, len(batch)) for key in batch.keys])
        return FeatureBatch(features, batch.masks, batch.samples)

    def _complete(
        self, extracted: FeatureBatch | None, samples: Sequence[Sample], keys: Sequence[str | None]
    ) -> FeatureBatch:
        """Join extracted and cached features to one batch."""
        rows = _by_sample(extracted) if extracted else {}
        for sample, key in zip(samples, keys, strict=True):
            cached = self._cache.read(key) if self._cache and sample not in rows else None
            if cached:
                rows[sample] = cached, self._reader.mask(sample)
        lost = [sample for sample in samples if sample not in rows]  # removed or damaged since the pass was planned
        if lost:
            rows |= _by_sample(self._extract_again(lost if self._encodes_alone else samples))
        features, masks = zip(*(rows[sample] for sample in samples), strict=True)
        return FeatureBatch(join_images(features, self._device), torch.stack(masks), tuple(samples))

    def _extract_again(self, samples: Sequence[Sample]) -> FeatureBatch:
        if self._cache:
            self._cache.add_missing(len(samples))
        return self._extract(next(load_batches([samples], self._reader, workers=0)))


def _check_finite(features: Features, batch: Batch) -> None:
    """Raise an AnoframeError that names the image if its features are not finite."""
    row = first_infinite(features)
    if row is not None:
        raise AnoframeError(
            f"{batch.samples[row].image}: its features are not finite; check the image, and --model.backbone.weights"
        )


def _by_sample(batch: FeatureBatch) -> dict[Sample, tuple[FlatFeatures, Tensor]]:
    """Features and mask of each sample of a batch."""
    rows = zip(split_images(batch.features), batch.masks, strict=True)
    return dict(zip(batch.samples, rows, strict=True))
