"""Training samples with a synthetic defect: one per normal image, made once, and the same in every epoch and run.

A synthetic sample has the file of its normal image and `synthetic = True`; the `Reader` makes its pixels. They depend
on the settings, the category, the name of the image, and the content of the category's normal training images alone
(generators take parts of other images), so they are cached like other images, and their features like other features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from anoframe.data.synthesis.base import Context, Generator, Pixels, item_rng
from anoframe.data.synthesis.mixture import build_generator
from anoframe.errors import AnoframeError
from anoframe.types import SYNTHETIC, Sample
from anoframe.utils.files import digest
from anoframe.utils.tensor_cache import cache_key

if TYPE_CHECKING:
    from anoframe.data.cached_reader import LoadedImage, Reader

_FORMAT = 1  # of cache entries: increase it if the same settings would give other pixels
DEFAULT_GENERATOR: Mapping[str, Any] = {
    "name": "mixture",
    "members": [
        {"name": "nsa", "weight": 0.5},
        # normal images are not rotated, so a rotation would give defects away
        {"name": "draem", "weight": 0.5, "rotate_base": 0.0},
    ],
}


@dataclass(frozen=True)
class SyntheticSettings:
    """How synthetic training samples are made: section `data.synthetic` of a config.

    Attributes:
        generator: its name and arguments, see docs/synthesis.md; it always edits.
        seed: of the defects, the same for every seed of a run.
    """

    generator: Mapping[str, Any] = field(default_factory=lambda: dict(DEFAULT_GENERATOR))
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise AnoframeError(f"data.synthetic.seed must be from 0 to 2**32 - 1, got {self.seed}")

    def build(self) -> Generator:
        """Return the generator; raises AnoframeError for an unknown name or argument."""
        return build_generator(self.generator).as_negative()


def add_synthetic(samples: Sequence[Sample]) -> list[Sample]:
    """Return samples and, behind them, one synthetic sample per normal one."""
    return [*samples, *(as_synthetic(sample) for sample in samples if not sample.is_defect)]


def as_synthetic(sample: Sample) -> Sample:
    """Return the synthetic sample that is made from a normal training sample."""
    return replace(sample, defect=SYNTHETIC, mask=None, synthetic=True)


class SyntheticImages:
    """Makes the pixels of synthetic samples, from images of the size that the reader gives.

    Args:
        settings: of the defects.
        normals: category -> its normal training samples, in the order of the dataset.
    """

    def __init__(self, settings: SyntheticSettings, normals: Mapping[str, Sequence[Sample]]):
        self.settings, self.normals = settings, normals
        self._generator = settings.build()
        self._recipe = cache_key(_FORMAT, _plain(settings.generator), settings.seed)
        self._pools: dict[str, str | None] = {}
        self._lock = Lock()  # keys are asked for in several threads

    def __reduce__(self) -> tuple[Any, ...]:
        return SyntheticImages, (self.settings, self.normals)  # a lock cannot be sent to a worker

    def key(self, sample: Sample, reader: Reader) -> str | None:
        """Return the key of a synthetic sample; None if a file it depends on cannot be read."""
        image, pool = reader.key(sample.image), self._pool(sample.category, reader)
        return (
            cache_key("synthetic", image, pool, self._recipe, sample.category, sample.name) if image and pool else None
        )

    def make(self, sample: Sample, original: LoadedImage, reader: Reader) -> Tensor:
        """Return the image of a synthetic sample, uint8 `[3, H, W]`.

        Args:
            sample: synthetic.
            original: the normal image.
            reader: reads the other normal images of the category, which generators take parts of.
        """
        normals = self.normals[sample.category]
        places = [place for place, normal in enumerate(normals) if normal.image == sample.image]
        number = int(digest(f"{sample.category}/{sample.name}".encode("utf-8", "surrogateescape"))[:8], 16)
        context = Context(sample.category, _Pool(normals, reader), places[0] if places else None)
        made = self._generator.generate(_pixels(original.pixels), item_rng(self.settings.seed, 0, number), context)
        return torch.from_numpy(np.ascontiguousarray(made.image.transpose(2, 0, 1)))

    def _pool(self, category: str, reader: Reader) -> str | None:
        """Return a hash of the contents of all normal images of a category; it is computed once."""
        with self._lock:
            if category not in self._pools:
                keys = [reader.key(sample.image) for sample in self.normals[category]]
                self._pools[category] = cache_key(*keys) if all(keys) else None
            return self._pools[category]


class _Pool(Sequence[Pixels]):
    """Normal images of a category as arrays, read on demand."""

    def __init__(self, samples: Sequence[Sample], reader: Reader):
        self._samples, self._reader = samples, reader

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, place):  # type: ignore[no-untyped-def]
        return _pixels(self._reader.image(self._samples[place].image).pixels)


def _pixels(image: Tensor) -> Pixels:
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def _plain(value: Any) -> Any:
    """Return mappings and sequences as JSON types, so that equal settings have equal keys."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value
