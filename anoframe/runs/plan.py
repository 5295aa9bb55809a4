"""Plan of a run: every check that needs no training, made before the run folder exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from anoframe.config import ConfigDict, to_plain
from anoframe.config.comparison import RESULT_NEUTRAL_KEYS
from anoframe.config.validation import check_ranges
from anoframe.continual.results import STREAM
from anoframe.continual.strategies import Replay, Strategy, build_strategy
from anoframe.data.fingerprint import FINGERPRINT, FileHashes, fingerprint_data
from anoframe.data.ignored import read_ignored
from anoframe.data.manifest import Manifest, make_manifest
from anoframe.data.masks import MaskSettings
from anoframe.data.preprocessing import Preprocessing
from anoframe.data.synthetic_samples import SyntheticSettings
from anoframe.data.task_streams import Task
from anoframe.data.tiling import Tiling
from anoframe.data.validation import check_dataset
from anoframe.data.validation_report import CategoryReport
from anoframe.distributed.process_group import join
from anoframe.errors import AnoframeError
from anoframe.evaluation.provenance import git_commit, versions
from anoframe.evaluation.results import CHOSEN_ON_TEST
from anoframe.metrics.catalogue import METRICS, Level
from anoframe.models.base import Detector
from anoframe.models.components.exemplars import MemorySettings, quota
from anoframe.models.factory import build_detector
from anoframe.registry import check_arguments
from anoframe.runs.disclosure import check_not_trained_on, check_training_defects, disclose
from anoframe.runs.folder import run_folder
from anoframe.runs.protocols import open_run_dataset, plan_fits, plan_tasks, resolve_categories
from anoframe.tracking.factory import check_tracking
from anoframe.training.checkpoint import PROVENANCE_KEYS, Checkpoint
from anoframe.training.distributed_loss import check_multi_device
from anoframe.training.settings import phase_settings
from anoframe.training.validation import check_training

_PREPROCESSING = tuple(field.name for field in fields(Preprocessing))
_MASKS = ("mask_rule", "mask_frame")


class Plan:
    """What a run will do. Building a plan checks the config, the devices, the data and the detector.

    Args:
        cfg: from `config_for_run`; `cfg.categories` is replaced by the categories that "all" stands for.
        tested: a checkpoint with the model of the run, if the run only tests; None for a run that trains.
        decode_images: decode every image completely, instead of its first and last bytes. A stream does this, because
            a damaged image of a late task would otherwise stop it after hours.
        trained_files: hashes of the files of the run that trained the checkpoint; None if they are not known.

    Attributes:
        group: processes that work on the run together.
        preprocessing, masks, dataset, categories: what is read, and how.
        tiling, ignored: tiles, None without; and category -> ignored region.
        fits: detectors to train and to evaluate.
        tasks: tasks of a stream; empty for another protocol.
        trainer: the `trainer` section of the config, None if it has none.
        warnings: oddities of the dataset that do not stop a run.
        is_test: whether the run only tests.
        is_supervised: whether the detector learns from defects; another one gets normal training images only.
        synthetic: how its synthetic training samples are made; None for a detector that wants none.
        provenance: provenance of `metrics.json`, as far as it is known before training.
        files: hash of each image and mask; empty except in the main process, which alone reads them all.
        manifest: of the split; None for the official one, and except in the main process.

    Raises:
        AnoframeError: a value, device, category, file or part of the detector is wrong.
    """

    def __init__(
        self,
        cfg: ConfigDict,
        tested: Checkpoint | None = None,
        decode_images: bool = False,
        trained_files: FileHashes | None = None,
    ):
        check_ranges(cfg)
        check_tracking(cfg)
        self.cfg = cfg
        self.is_test = tested is not None
        self.group = join(cfg.device)
        self.preprocessing = Preprocessing(**{name: cfg.data[name] for name in _PREPROCESSING})
        self.tiling = _tiling(cfg, self.preprocessing)
        self.masks = MaskSettings(cfg.data.mask_rule, cfg.data.mask_frame)
        self.dataset = open_run_dataset(cfg)
        self.categories = resolve_categories(self.dataset, cfg)
        cfg.categories = tuple(self.categories)  # so that config.yaml repeats this run if a category is added on disk
        self.ignored = tested.ignored if tested else read_ignored(cfg.data.ignore, self.categories)
        self.fits = plan_fits(cfg.protocol.name, self.categories)
        data = check_dataset(
            self.dataset, self.categories, decode_images, cfg.data.follow_links, self.masks, self.preprocessing
        )
        data.raise_if_broken(is_trained=False)
        self.warnings = data.remarks
        self.tasks: list[Task] = plan_tasks(cfg) if cfg.protocol.name == "continual" else []
        self.trainer = to_plain(cfg.trainer) if "trainer" in cfg else None
        self._detector: Detector | None = None  # built for the checks, handed out by the first new_detector()
        if tested:
            detector = tested.detector
            training = {key: tested.training[key] for key in PROVENANCE_KEYS if key in tested.training}
        else:
            detector = self._detector = build_detector(to_plain(cfg.model), cfg.seed)
            data.raise_if_broken(is_trained=bool(detector.training_stages()))
            self._check_detector(detector, data.categories)
            training = _training_provenance(detector.phase_names(), self.trainer)
            if "selected" in training:
                self._check_selection(detector.phase_names(), data.categories)
        self.is_supervised = detector.is_supervised
        self.synthetic = _synthetic_settings(cfg) if detector.wants_synthetic_defects else None
        self.provenance = self._provenance() | training
        self.provenance |= disclose(detector, self.dataset.split, data.categories, tested)
        if self.synthetic and not self.is_test:
            images = {each.name: each.train_good for each in data.categories}
            self.provenance["synthetic"] = {**asdict(self.synthetic), "images": images}
        self.files: FileHashes = {}
        self.manifest: Manifest | None = None
        if self.group.is_main:
            self._read_data(trained_files)

    def _read_data(self, trained_files: FileHashes | None) -> None:
        """Hash every file of the run, and describe its split."""
        data = fingerprint_data(self.dataset, self.categories)
        self.provenance[FINGERPRINT], self.files = data.categories, data.files
        if self.is_test and self.is_supervised and trained_files:
            samples = [sample for category in self.categories for sample in self.dataset.samples(category)]
            check_not_trained_on(samples, self.files, trained_files, self.dataset.root)
        if not self.dataset.split.is_official:
            self.manifest = make_manifest(self.dataset, self.categories, self.provenance.get("protocol_tag"))
            self.provenance["split_hash"] = self.manifest.hash

    def folder(self, output: str | Path) -> Path:
        """Return the run folder below `output`."""
        return run_folder(self.cfg, self.categories, output, "-test" if self.is_test else "")

    def new_detector(self) -> Detector:
        """Return an untrained detector on the device of this process, in eval mode.

        The first call returns the detector that was built for the checks; they do not change it. Initial weights
        depend on the seed alone, so every detector starts equal.
        """
        detector, self._detector = self._detector, None
        if detector is None:
            detector = build_detector(to_plain(self.cfg.model), self.cfg.seed)
        return detector.to(self.group.device).eval()

    def new_strategy(self, detector: Detector) -> Strategy:
        """Return the strategy of a stream of tasks for a detector.

        Raises:
            AnoframeError: it is unknown or does not fit to the detector, or its settings are wrong.
        """
        protocol = self.cfg.protocol
        section = to_plain(protocol.memory)
        check_arguments(MemorySettings, section, "protocol.memory")
        memory = MemorySettings(**section) if protocol.strategy == "replay" else None
        if memory and self.tiling:
            raise AnoframeError(
                "protocol.strategy replay keeps whole images, and with data.tile the training images are tiles: choose "
                "another strategy, or train without tiles"
            )
        return build_strategy(protocol.strategy, detector, protocol.ewc_weight, memory, self.cfg.seed)

    def _check_detector(self, detector: Detector, counts: Sequence[CategoryReport]) -> None:
        protocol = self.cfg.protocol.name
        check_detector_shape(detector, self.preprocessing, self.tiling, bool(self.ignored))
        if not self.group.is_single:
            check_multi_device(detector, protocol, f"{self.group.size} processes")
        check_training_defects(detector, self.dataset.split, self.fits, counts)
        if self.tasks:
            images = {each.name: each.train if detector.is_supervised else each.train_good for each in counts}
            self._check_stream(detector, images)
        stages, phases = detector.training_stages(), detector.phase_names()
        check_training(stages, self.trainer, self.group.device, phases)

    def _check_selection(self, phases: Sequence[str], counts: Sequence[CategoryReport]) -> None:
        """Check that the test images of each fit have the metric that is to choose the epoch.

        Args:
            phases: names of all phases of the detector.
            counts: of each category.
        """
        settings = [phase_settings(self.trainer, name) for name in phases]
        names = {s.select_metric: s.selection_metrics for s in settings if s.select == "best_on_test"}
        by_category = {category.name: category for category in counts}
        for fit in self.fits:
            available = {name for category in fit.categories for name in _available(by_category[category])}
            for name, metrics in names.items():
                if not available & {METRICS[metric].level for metric in metrics}:
                    raise AnoframeError(
                        f"trainer.select best_on_test chooses the epoch by trainer.select_metric {name}, and no test "
                        f"set of {', '.join(fit.categories)} has it: add good test images and defects with masks, or "
                        "use --trainer.select last"
                    )

    def _check_stream(self, detector: Detector, training_images: Mapping[str, int]) -> None:
        """Check the strategy, and that each task has enough training images.

        Args:
            training_images: category -> number of its training images.
        """
        if Path(STREAM).stem in self.categories:
            raise AnoframeError(f"category {Path(STREAM).stem!r} collides with results/{STREAM}: rename that category")
        strategy = self.new_strategy(detector)
        if isinstance(strategy, Replay):
            quota(strategy.memory, len(self.categories))  # raises an error now, and not in the last task
        least = strategy.min_images
        for number, task in enumerate(self.tasks):
            count = sum(training_images[category] for category in task)
            if count < least:
                raise AnoframeError(
                    f"task {number} ({', '.join(task)}) has {count} training image{'s' * (count > 1)}, and "
                    f"{type(detector).__name__} needs {least} or more per task: add images, or merge two tasks"
                )

    def _shape_provenance(self) -> dict[str, Any]:
        """Return tiles and ignored regions for the provenance; nothing without, as in earlier versions."""
        tiles = self.tiling.settings() if self.tiling else {}
        shape: dict[str, Any] = {"tile": tiles["tile"], "tile_overlap": tiles["overlap"]} if tiles else {}
        ignored = {category: region.hash for category, region in self.ignored.items()}
        return shape | ({"ignored_regions": ignored} if ignored else {})

    def _provenance(self) -> dict[str, Any]:
        cfg, protocol = self.cfg, self.cfg.protocol
        provenance = {
            "config": cfg.config_name,
            "protocol": protocol.name,
            "seed": cfg.seed,
            "data": {
                "name": self.dataset.name,
                **self.preprocessing.settings(),
                **{key: cfg.data[key] for key in _MASKS},
                **self._shape_provenance(),
                **self.dataset.split.provenance(),
            },
        }
        if self.tasks:
            provenance["stream"] = {"tasks": [list(task) for task in self.tasks], "strategy": protocol.strategy}
            if protocol.strategy == "replay":
                provenance["stream"]["memory"] = to_plain(protocol.memory)
        if not self.group.is_single:
            provenance["processes"] = self.group.size  # sums over processes round differently
        return {**provenance, "model": to_plain(cfg.model), "versions": versions(), "git": git_commit()}


def check_detector_shape(
    detector: Detector, preprocessing: Preprocessing, tiling: Tiling | None, has_ignored: bool
) -> None:
    """Check that a detector can use images of this shape, tiles, padding and ignored regions.

    Raises:
        AnoframeError: it cannot; names the keys to change.
    """
    detector.check_image_size(*(tiling.size if tiling else preprocessing.size))
    if detector.scores_whole_images:
        used = {"data.tile": bool(tiling), 'data.keep_aspect "pad"': preprocessing.pads, "data.ignore": has_ignored}
        if names := [name for name, is_used in used.items() if is_used]:
            raise AnoframeError(
                f"{type(detector).__name__} scores images as a whole, not by its map, so it cannot leave out pixels or "
                f"join tiles: set no {' and no '.join(names)}"
            )


def _tiling(cfg: ConfigDict, preprocessing: Preprocessing) -> Tiling | None:
    """Return the tiles of a config; None without."""
    if cfg.data.tile is None:
        if cfg.data.tile_overlap:
            raise AnoframeError(
                f"data.tile_overlap {cfg.data.tile_overlap} has no effect without tiles: set data.tile, or leave it 0"
            )
        return None
    tiling = Tiling(cfg.data.tile, cfg.data.tile_overlap)
    tiling.check(preprocessing.size)
    return tiling


def check_devices(cfg: ConfigDict) -> None:
    """Check that a run can train on the devices of its config, before a process is started for each.

    Raises:
        AnoframeError: a stream of tasks, or a method without gradient training, which one process must train.
    """
    check_multi_device(build_detector(to_plain(cfg.model), cfg.seed), cfg.protocol.name, f"--device {cfg.device}")


def _synthetic_settings(cfg: ConfigDict) -> SyntheticSettings:
    """Return the section `data.synthetic` of a config, which may be missing.

    Raises:
        AnoframeError: a key or value is wrong.
    """
    section = to_plain(cfg.data.get("synthetic") or {})
    check_arguments(SyntheticSettings, section, "data.synthetic")
    settings = SyntheticSettings(**section)
    settings.build()
    return settings


def _training_provenance(phases: Sequence[str], trainer: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the training settings that results depend on, and whether the test set chose the reported epoch.

    Args:
        phases: names of all phases the detector can have; the last task of a stream may train none of them.
        trainer: the `trainer` section of the config.
    """
    if trainer is None or not phases:
        return {}
    settings = {key: value for key, value in trainer.items() if f"trainer.{key}" not in RESULT_NEUTRAL_KEYS}
    on_test = any(phase_settings(trainer, name).select == "best_on_test" for name in phases)
    if not on_test:
        settings.pop("select_metric", None)  # nothing is selected by it
    return {"trainer": settings, **({"selected": CHOSEN_ON_TEST} if on_test else {})}


def _available(counts: CategoryReport) -> set[Level]:
    """Return the levels of the metrics that the test set of a category has."""
    defects = sum(counts.defects.values())
    levels: set[Level] = {"image"} if defects and counts.test_good else set()
    return levels | ({"pixel"} if defects and counts.masks == defects else set())
