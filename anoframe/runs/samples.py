"""Samples of a run and their encoded features."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from anoframe.config import ConfigDict
from anoframe.data.cached_reader import Reader
from anoframe.data.synthetic_samples import SyntheticImages, add_synthetic
from anoframe.features.extraction import FeatureLoader
from anoframe.models.base import Detector
from anoframe.runs.plan import Plan
from anoframe.tracking.tracker import Tracker
from anoframe.training.views import TrainingImages
from anoframe.types import Sample
from anoframe.utils.tensor_cache import CACHE_KINDS, TensorCache, cache_root


class RunSamples:
    """Reads and encodes the samples of a run, with the caches of images and features that its config asks for.

    Attributes:
        reader: reads images and masks.
    """

    def __init__(self, plan: Plan, tracker: Tracker):
        images, self._features = _open_caches(plan.cfg, tracker)
        self._group, self._dataset, self._data, self._tracker = plan.group, plan.dataset, plan.cfg.data, tracker
        self._is_supervised = plan.is_supervised
        self._synthetic = self._synthetic_images(plan)
        self.reader = Reader(plan.preprocessing, images, plan.masks, plan.tiling, plan.ignored, self._synthetic)

    def train(self, categories: Iterable[str]) -> dict[str, list[Sample]]:
        """Return category -> its training samples.

        Of a method that is not supervised they are the normal ones, with one synthetic sample for each if the method
        wants synthetic defects.
        """
        return {category: self._train(category) for category in categories}

    def test(self, category: str) -> list[Sample]:
        """Return the test samples of a category."""
        return self._split(category, "test")

    def encode(self, detector: Detector, samples: Sequence[Sample]) -> FeatureLoader:
        """Return the features of samples, or of their tiles, in batches of `data.batch_size`, computed on iteration."""
        data = self._data
        return FeatureLoader(
            detector,
            self.reader.cut(samples),
            self.reader,
            data.batch_size,
            data.workers,
            self._tracker,
            self._features,
        )

    def encode_for_all(self, detector: Detector, samples: Sequence[Sample]) -> FeatureLoader:
        """Return the features of samples that every process will read; the processes share the work of caching them."""
        encoded = self.encode(detector, samples)
        encoded.prepare(self._group)
        return encoded

    def images(self, samples: Sequence[Sample]) -> TrainingImages:
        """Return samples, or their tiles, as images, for phases that draw views of them."""
        return TrainingImages(self.reader.cut(samples), self.reader, self._data.workers)

    def _synthetic_images(self, plan: Plan) -> SyntheticImages | None:
        """Return what makes the synthetic samples of a run; None for a method that wants none."""
        if plan.synthetic is None:
            return None
        normals = {category: self._train_normals(category) for category in plan.categories}
        return SyntheticImages(plan.synthetic, normals)

    def _train(self, category: str) -> list[Sample]:
        if self._is_supervised:
            return self._split(category, "train")
        normals = self._train_normals(category)
        return add_synthetic(normals) if self._synthetic else normals

    def _train_normals(self, category: str) -> list[Sample]:
        return [sample for sample in self._split(category, "train") if not sample.is_defect]

    def _split(self, category: str, split: str) -> list[Sample]:
        return [sample for sample in self._dataset.samples(category) if sample.split == split]


def _open_caches(cfg: ConfigDict, tracker: Tracker) -> list[TensorCache | None]:
    """Open the caches of images and of features; None stands for a cache that is off."""
    root, max_bytes = cache_root(cfg.cache.folder), int(cfg.cache.max_gb * 1e9)
    warn = partial(tracker.log, "warning")
    return [TensorCache(root / kind, max_bytes, warn) if cfg.cache[kind] else None for kind in CACHE_KINDS]
