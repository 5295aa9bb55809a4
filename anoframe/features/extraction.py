"""Features of samples: from the cache where it has them, else from the detector's encoder."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import anoframe
from anoframe.data.loader import check_loading, load_batches
from anoframe.data.probe import THREADS
from anoframe.data.reader import Reader
from anoframe.distributed.process_group import Group
from anoframe.errors import AnoframeError
from anoframe.models.base import Detector, Features
from anoframe.tracking.tracker import Tracker
from anoframe.types import Batch, Sample
from anoframe.utils.progress import progress
from anoframe.utils.tensor_cache import Cache, key_of

_FORMAT = 1  # of the entries: raise it when the same image would give other features

Levels = dict[str, Tensor]  # the features of one image, as an entry of the cache holds them


@dataclass(frozen=True)
class Encoded:
    """Features of a batch."""

    features: Features
    masks: Tensor  # [B, 1, H, W] bool, all False where a sample has no mask
    samples: tuple[Sample, ...]

    def __len__(self) -> int:
        return len(self.samples)


class EncodedSamples:
    """Batches of features in the order of the samples, made when they are asked for.

    An image whose features are cached is neither decoded nor encoded, and features that were made are cached. They are
    the same to the bit: on a CPU an image is encoded alone (see `Detector.encode`); on another device its features may
    depend on how many are encoded together, so there they are looked for, and made, among as many.

    Args:
        batch_size: images the encoder sees at once.
        workers: as for `make_loader`.
        tracker: is told what is cached, and how much will be written before anything is.
        cache: of features; None encodes every time, and so does a detector that does not say what its encoding is.

    Raises AnoframeError as `make_loader` does.
    """

    def __init__(
        self,
        detector: Detector,
        samples: Sequence[Sample],
        reader: Reader,
        batch_size: int,
        workers: int,
        tracker: Tracker,
        cache: Cache | None = None,
    ):
        check_loading(samples, batch_size, workers)
        self._samples, self._batch_size, self._workers = tuple(samples), batch_size, workers
        self._detector, self._device = detector, next(detector.buffers()).device
        self._reader, self._tracker = reader, tracker
        encoding = _encoding(detector) if cache else None
        self._cache = cache if encoding else None
        self._recipe = key_of(_FORMAT, encoding, _surroundings(self._device))
        self._alone = self._device.type == "cpu"
        self._to_make = 0
        self._room: bool | None = None  # for what will be made; None: not known yet

    def __len__(self) -> int:
        return -(-len(self._samples) // self._batch_size)

    def prepare(self, group: Group) -> None:
        """Cache what is not cached yet, each process of a machine a share of it, and wait until all of it is.

        So several processes, which all are going to read all of it, encode no image twice on one machine. Nothing is
        done by one that is alone, nor where nothing is cached.
        """
        if group.is_single or self._cache is None:
            return
        _, _, missing = self._plan()
        group.barrier()  # nobody writes before everybody has looked, or shares would overlap
        own = [part for part in missing if part][group.local_rank :: group.local_size]
        for batch in progress(load_batches(own, self._reader, self._workers), "encode", "batch", len(own)):
            if self._room is False:  # found out with the first: nothing will be kept
                break
            self._encode(batch)
        group.barrier()

    def __iter__(self) -> Iterator[Encoded]:
        batches, keys, missing = self._plan()
        if not self._to_make:
            self._tell(f"features of all {len(self._samples)} images are cached: no encoder pass")
        loaded = load_batches([part for part in missing if part], self._reader, self._workers)
        for batch, names, part in zip(batches, keys, missing, strict=True):
            made = self._encode(next(loaded)) if part else None
            yield made if made and len(made) == len(batch) else self._completed(made, batch, names)

    def _plan(self) -> tuple[list[Sequence[Sample]], list[Sequence[str | None]], list[Sequence[Sample]]]:
        """Batches, their keys, and what of each has to be encoded."""
        batches = list(self._batches(self._samples))
        keys = list(self._batches(self._keys()))
        missing = [self._missing(batch, names) for batch, names in zip(batches, keys, strict=True)]
        self._to_make, self._room = sum(map(len, missing)), None
        return batches, keys, missing

    def _batches(self, items: Sequence[Any]) -> Iterator[Sequence[Any]]:
        return (items[i : i + self._batch_size] for i in range(0, len(items), self._batch_size))

    # ------------------------------------------------------------------------------------------------ keys

    def _keys(self) -> list[str | None]:
        """A key a sample; None where nothing is cached, or the file cannot be read."""
        if self._cache is None:
            return [None] * len(self._samples)
        lengths = [len(batch) for batch in self._batches(self._samples) for _ in batch]
        with ThreadPoolExecutor(THREADS) as pool:  # a disk answers many readers sooner than one
            return list(map(self._key, pool.map(self._reader.key, [s.image for s in self._samples]), lengths))

    def _key(self, image: str | None, together: int) -> str | None:
        """The key of an image's features when so many are encoded together."""
        return image and key_of(image, self._recipe, 1 if self._alone else together)

    def _missing(self, batch: Sequence[Sample], keys: Sequence[str | None]) -> Sequence[Sample]:
        """What of a batch has to be encoded."""
        cached = [bool(self._cache and key and key in self._cache) for key in keys]
        part = [sample for sample, known in zip(batch, cached, strict=True) if not known]
        return part if self._alone or not part else batch

    # ------------------------------------------------------------------------------------------------ making

    def _encode(self, batch: Batch) -> Encoded:
        with torch.no_grad():
            features = self._detector.encode(batch.images.to(self._device))
        _check_finite(features, batch)
        if self._cache:
            self._keep(self._cache, _split(features), [self._key(key, len(batch)) for key in batch.keys])
        return Encoded(features, batch.masks, batch.samples)

    def _keep(self, cache: Cache, made: Sequence[Levels], keys: Sequence[str | None]) -> None:
        if self._room is None:
            size = self._to_make * sum(level.nbytes for level in made[0].values())
            self._room = size <= cache.max_bytes
            what = f"{self._to_make} of {len(self._samples)} images have no cached features: {size / 1e6:,.1f} MB "
            where = (
                f"will be written to {cache.folder}" if self._room else "are more than cache.max_gb, nothing is kept"
            )
            self._tell(what + where)
        for levels, key in zip(made, keys, strict=True):
            if self._room and key:
                cache.write(key, levels)

    def _completed(self, made: Encoded | None, batch: Sequence[Sample], keys: Sequence[str | None]) -> Encoded:
        """A batch of what was made and what is cached."""
        rows = _rows(made) if made else {}
        for sample, key in zip(batch, keys, strict=True):
            cached = self._cache.read(key) if self._cache and key and sample not in rows else None
            if cached:
                rows[sample] = cached, self._reader.mask(sample)
        lost = [sample for sample in batch if sample not in rows]  # removed or damaged since it was looked for
        if lost:
            again = lost if self._alone else batch
            self._to_make += len(again)
            rows |= _rows(self._encode(next(load_batches([again], self._reader, workers=0))))
        levels, masks = zip(*(rows[sample] for sample in batch), strict=True)
        return Encoded(_joined(levels, self._device), torch.stack(masks), tuple(batch))

    def _tell(self, text: str) -> None:
        if self._cache:
            self._tracker.log("features", text=text)


def _check_finite(features: Features, batch: Batch) -> None:
    """Raise AnoframeError, naming the image, for features that nothing can be learned from or decided by."""
    for level in [features] if isinstance(features, Tensor) else features if isinstance(features, list) else []:
        if level.is_floating_point() and not bool(level.isfinite().all()):
            bad = int((~level.flatten(1).isfinite().all(1)).nonzero()[0])
            image = batch.samples[bad].image
            raise AnoframeError(f"{image}: its features are not finite; check it, and --model.backbone.weights")


def _encoding(detector: Detector) -> list[Any] | None:
    """Whose `encode` a detector has, and what it says of it; None if it encodes in its own way and says nothing."""
    encodes, says = (
        next(kind for kind in type(detector).__mro__ if name in vars(kind)) for name in ("encode", "encoding")
    )
    said = detector.encoding() if issubclass(says, encodes) else None
    return None if said is None else [encodes.__module__, encodes.__qualname__, said]


def _surroundings(device: torch.device) -> list[Any]:
    """What else rounds features: versions, the kind of processor, and the precision asked for."""
    common = [anoframe.__version__, torch.__version__, torch.get_float32_matmul_precision(), device.type]
    if device.type == "cuda":
        chosen = torch.backends.cudnn.allow_tf32, torch.are_deterministic_algorithms_enabled()
        return [*common, torch.cuda.get_device_name(device), *chosen]
    return [*common, platform.machine(), torch.backends.cpu.get_cpu_capability()]


def _split(features: Features) -> list[Levels]:
    """Features of a batch, a tensor or a list of them, as those of each image."""
    named = {"all": features} if isinstance(features, Tensor) else {str(i): level for i, level in enumerate(features)}
    named = {name: level.cpu() for name, level in named.items()}
    count = len(next(iter(named.values())))
    return [{name: level[i] for name, level in named.items()} for i in range(count)]


def _joined(rows: Sequence[Levels], device: torch.device) -> Features:
    """What `_split` took apart."""
    named = {name: torch.stack([levels[name] for levels in rows]).to(device) for name in rows[0]}
    return named["all"] if "all" in named else [named[str(i)] for i in range(len(named))]


def _rows(made: Encoded) -> dict[Sample, tuple[Levels, Tensor]]:
    return dict(zip(made.samples, zip(_split(made.features), made.masks, strict=True), strict=True))
