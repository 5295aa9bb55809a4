"""Plan of a pretraining: every check that needs no training, made before the run folder exists."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from anoframe.config import ConfigDict, to_plain
from anoframe.config.comparison import RESULT_NEUTRAL_KEYS
from anoframe.config.validation import check_pretraining_config, check_ranges
from anoframe.data.cached_reader import Reader
from anoframe.data.fingerprint import FINGERPRINT, FileHashes
from anoframe.data.labelled.sources import TrainingSet, open_training_set
from anoframe.data.manifest import Manifest
from anoframe.data.preprocessing import Preprocessing
from anoframe.distributed.process_group import join
from anoframe.errors import AnoframeError
from anoframe.evaluation.provenance import git_commit, versions
from anoframe.pretraining.base import PHASE
from anoframe.pretraining.factory import build_pretraining
from anoframe.tracking.factory import check_tracking
from anoframe.training.settings import TrainingSettings, phase_settings
from anoframe.training.validation import check_training
from anoframe.utils.files import safe_path
from anoframe.utils.tensor_cache import TensorCache, cache_root

PROTOCOL = "pretraining"  # in the path of the run folder, where runs of detectors have their protocol
_PREPROCESSING = tuple(field.name for field in fields(Preprocessing))


class PretrainingPlan:
    """What a pretraining will do. Building it checks the config, the devices, the data and the learner.

    Args:
        cfg: of `configs/__base__/pretraining.py`.

    Attributes:
        group: processes that train together.
        data: the training images.
        learner: untrained, on the device of this process.
        trainer: the `trainer` section of the config.
        settings: of the training.
        warnings: what a user should know before the training.
        provenance: what the result depends on.
        files: hash of each image, for `data.json`.

    Raises:
        AnoframeError: a value, device, path or part of the learner is wrong.
    """

    def __init__(self, cfg: ConfigDict):
        check_pretraining_config(cfg)
        check_ranges(cfg)
        check_tracking(cfg)
        self.cfg, self.group = cfg, join(cfg.device)
        self.trainer = to_plain(cfg.trainer)
        self.settings = phase_settings(self.trainer, PHASE)
        if self.settings.evaluate_every:
            raise AnoframeError("pretraining has no test images: --trainer.evaluate_every 0")
        self.data = self._open_data()
        images = self.data.images
        self.learner = build_pretraining(to_plain(cfg), images.classes, cfg.seed).to(self.group.device)
        stages = self.learner.training_stages()
        check_training(stages, self.trainer, self.group.device, self.learner.phase_names())
        self.warnings = [*self.data.remarks(), *self._warn_about_negatives()]
        self.provenance = self._provenance()
        self.manifest: Manifest | None = None  # all images are for training
        names = [str(sample.image) for sample in images.samples]
        self.files: FileHashes = {PROTOCOL: {"train": dict(zip(names, self.data.hashes, strict=True)), "test": {}}}

    @property
    def negatives(self) -> int | None:
        """Number of negatives of an anchor in a full batch; None if the loss does not compare images."""
        images = min(self.settings.batch_size, len(self.data.images))
        return self._negatives(images) if self.learner.compares_images else None

    def folder(self, output: str | Path) -> Path:
        """Return the run folder: `<output>/<config>/pretraining/<data>/<seed>`."""
        data = "+".join([self.cfg.data.name, *(source.partition(":")[0] for source in self.cfg.data.also)])
        return safe_path(
            output, config_name=self.cfg.config_name, protocol=PROTOCOL, data=data, seed=str(self.cfg.seed)
        )

    def _open_data(self) -> TrainingSet:
        data, cache = self.cfg.data, self.cfg.cache
        if not data.root:
            raise AnoframeError(f"data.root is not set: --data.root FOLDER with the images of the kind {data.name!r}")
        preprocessing = Preprocessing(**{name: data[name] for name in _PREPROCESSING})
        stored = TensorCache(cache_root(cache.folder) / "images", int(cache.max_gb * 1e9)) if cache.images else None
        sources = (f"{data.name}:{data.root}", *data.also)
        return open_training_set(sources, data.exclude, Reader(preprocessing, stored), data.workers)

    def _negatives(self, images: int) -> int:
        return 2 * images - 2

    def _warn_about_negatives(self) -> list[str]:
        """Say what gradient accumulation does to the negatives."""
        settings: TrainingSettings = self.settings
        if not self.learner.compares_images or settings.accumulate == 1:
            return []
        images = min(settings.batch_size, len(self.data.images))
        part = images // settings.accumulate
        return [
            f"trainer.accumulate {settings.accumulate} does not enlarge the set of negatives: each part of {part} "
            f"images is compared with itself only, negatives per anchor = {self._negatives(part)}. To keep "
            f"{self._negatives(images)} with little memory: --trainer.accumulate 1 --learner.micro_batches "
            f"{settings.accumulate}"
        ]

    def _provenance(self) -> dict[str, Any]:
        cfg, images = self.cfg, self.data.images
        data = {"name": cfg.data.name, **{key: cfg.data[key] for key in _PREPROCESSING}, "classes": len(images.classes)}
        trainer = {key: value for key, value in self.trainer.items() if f"trainer.{key}" not in RESULT_NEUTRAL_KEYS}
        sections = {key: to_plain(cfg[key]) for key in ("learner", "encoder", "views")}
        facts = {"config": cfg.config_name, "protocol": PROTOCOL, "seed": cfg.seed, "data": data, **sections}
        if not self.group.is_single:
            facts["processes"] = self.group.size  # sums over processes round differently
        counts = {"train_images": len(images), "test_images": 0, "masks": 0}
        fingerprint = {PROTOCOL: {"train": self.data.manifest[:32], "test": "", **counts}}
        return {**facts, "trainer": trainer, "versions": versions(), "git": git_commit(), FINGERPRINT: fingerprint}
