"""One execution: everything checked first, then categories one by one, each kept as soon as it is done."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

from anoframe.config import ConfigDict, plain
from anoframe.config.comparison import RESULT_NEUTRAL_KEYS
from anoframe.config.validation import check_ranges
from anoframe.continual.results import STREAM
from anoframe.continual.strategies import build_strategy
from anoframe.data.reader import Reader
from anoframe.data.task_streams import Task, stream
from anoframe.data.transforms import Preprocessing
from anoframe.data.validation import check
from anoframe.distributed.process_group import join
from anoframe.errors import AnoframeError, OutputError
from anoframe.evaluation.decision import Threshold
from anoframe.evaluation.predictions import CategoryPredictions, collect_shared
from anoframe.evaluation.provenance import git_commit, machine, versions
from anoframe.evaluation.results import CHOSEN_ON_TEST, Metrics, Results, category_metrics, percent
from anoframe.features.extraction import FeatureLoader
from anoframe.models.base import Detector
from anoframe.models.factory import build_detector
from anoframe.registry import check_arguments
from anoframe.report.curves import category_curves
from anoframe.report.write import write_category_pictures, write_report
from anoframe.runs.folder import FollowedFolder, RunFolder, run_folder
from anoframe.runs.protocols import Fit, categories_of, dataset_of, plan_fits
from anoframe.tracking.factory import check_tracking, open_trackers
from anoframe.tracking.timing import Clock, Stage
from anoframe.tracking.tracker import Status, Tracker, Trackers
from anoframe.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from anoframe.training.context import FitContext
from anoframe.training.distributed_loss import check_multi_device
from anoframe.training.seeding import seed_everything
from anoframe.training.settings import phase_settings
from anoframe.training.stages import fit_detector
from anoframe.training.threshold import estimate_thresholds
from anoframe.training.validation import check_training
from anoframe.types import Sample
from anoframe.utils.tensor_cache import KINDS, Cache, cache_root

_PREPROCESSING = tuple(field.name for field in fields(Preprocessing))


class Plan:
    """What a run will do, found out before anything is written: whatever can be known to be wrong is told here.

    Args:
        cfg: with its categories, which are changed to what they come to.
        fitted: what is to be tested; None for a run that learns.
        decode: every pixel is looked at, as a stream can afford, which otherwise stops at a damaged image hours later.

    Attributes:
        group: the processes that work on it together.
        trainer: section of the config, None where it has none.
        remarks: what is odd about the data, and no reason to stop.

    Raises:
        AnoframeError: a value, device, category, file or part of the detector is wrong.
    """

    def __init__(self, cfg: ConfigDict, fitted: Checkpoint | None = None, decode: bool = False):
        check_ranges(cfg)
        check_tracking(cfg)
        self.group = join(cfg.device)
        self.preprocessing = Preprocessing(**{name: cfg.data[name] for name in _PREPROCESSING})
        self.dataset = dataset_of(cfg)
        self.categories = categories_of(self.dataset, cfg)
        cfg.categories = tuple(self.categories)  # config.yaml names them, whatever "all" means later
        self.fits = plan_fits(cfg.protocol.name, self.categories)
        report = check(self.dataset, self.categories, decode, cfg.data.follow_links)
        report.raise_if_broken()
        self.remarks = report.remarks
        self.trainer = plain(cfg.trainer) if "trainer" in cfg else None
        # a wrong name or weights: told now
        detector = fitted.detector if fitted else build_detector(plain(cfg.model), cfg.seed)
        names = detector.phase_names()
        if not fitted:
            if not self.group.is_single:
                check_multi_device(detector, cfg.protocol.name, f"{self.group.size} processes")
            if cfg.protocol.name == "continual":
                self._check_stream(cfg, detector, {one.name: one.train for one in report.categories})
            check_training(detector.training_stages(), self.trainer, self.group.device, names)
        trained = fitted.training if fitted else _provenance_of_training(names, self.trainer)
        self.provenance = _provenance(cfg, self.dataset.name, self.group.size) | trained

    def _check_stream(self, cfg: ConfigDict, detector: Detector, images: Mapping[str, int]) -> None:
        """`images`: those to train on, of each category."""
        if Path(STREAM).stem in self.categories:
            raise AnoframeError(f"results/{STREAM} holds what a stream gave: rename that category")
        least = build_strategy(cfg.protocol.strategy, detector, cfg.protocol.ewc_weight).least_images
        for number, task in enumerate(tasks_of(cfg)):
            count = sum(images[category] for category in task)
            if count < least:
                raise AnoframeError(
                    f"task {number} ({', '.join(task)}) has {count} training image{'s' * (count > 1)}, and "
                    f"{type(detector).__name__} wants {least} or more a task: add some, or put it into another task"
                )


class Session:
    """What `train` and `test` share. Use it as a context manager: it holds the run folder until its end.

    Where several processes work on a run each has a session, and they run in lockstep: they learn together, and each
    evaluates a part of the test images. The one of rank 0 alone decides what is left to do, measures, writes and tells.

    Args:
        cfg: with its categories; `config.yaml` will say what they came to.
        output: parent of run folders.
        start: as for `RunFolder`.
        fitted: what is to be tested, in a folder of its own; None for a run that learns.

    Attributes:
        failed: category -> why it has no result. A category that fails does not lose the others, where one process
            works alone; of several, any error ends the run, because they cannot go on at different places.

    Raises:
        AnoframeError: whatever can be known to be wrong, before any work starts.
    """

    def __init__(self, cfg: ConfigDict, output: str | Path, start: str, fitted: Checkpoint | None = None):
        plan = Plan(cfg, fitted, decode=cfg.protocol.name == "continual")
        self.cfg = cfg
        self.group, self.device = plan.group, plan.group.device
        self.preprocessing, self.dataset = plan.preprocessing, plan.dataset
        self.categories, self.fits, self.provenance = plan.categories, plan.fits, plan.provenance
        self._trainer = plan.trainer
        self.failed: dict[str, str] = {}
        self._errors: list[Exception] = []
        path = run_folder(cfg, self.categories, output, "-test" if fitted else "")
        leads = self.group.is_main
        self.folder = RunFolder(path, cfg, self.provenance, start) if leads else FollowedFolder(path)
        try:
            self._open(plan.remarks)
        except BaseException:
            self.folder.release()
            raise

    def _open(self, remarks: Sequence[str]) -> None:
        """What writes to the folder, or goes on with what is in it."""
        folder = self.folder
        self.tracker = open_trackers(self.cfg, folder.path) if self.group.is_main else Trackers()
        self.clock = Clock(self.tracker)
        for name, stage in folder.state["stages"].items():
            check_arguments(Stage, stage, f"{folder.path / 'run.json'} is damaged: its stage {name!r}")
            self.clock.stages[name] = Stage(**stage)
        images, self.features = _caches(self.cfg, self.tracker)
        self.reader = Reader(self.preprocessing, images)
        self._begun = time.perf_counter()
        self.tracker.log("run", id=folder.id, folder=str(folder.path), config=plain(self.cfg), resumed=folder.resumed)
        for remark in remarks:
            self.tracker.log("warning", text=remark)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        interrupted = kind is not None and not issubclass(kind, Exception)
        status: Status = "interrupted" if interrupted else "failed" if kind or self.failed else "finished"
        try:
            if kind is not None:
                with suppress(OutputError):  # a full disk is being told already
                    self._write_state(status)
            self.tracker.close(status)
        finally:
            self.folder.release()

    # ------------------------------------------------------------------------------------------------ steps

    def run(self, fit: Fit, fitted: Checkpoint | None = None) -> None:
        """Learn and evaluate what of a fit is not done yet.

        Args:
            fitted: its detector, where one is to be tested and none to be learned.
        """
        todo = self.group.broadcast([name for name in fit.categories if self.folder.result(name) is None])
        if not todo:
            self.tracker.log("done", fit=fit.name)
            return
        with self._survived(todo):
            fitted = fitted or self._learned(fit) or self._learn(fit)
        if fitted is None:
            return
        for category in todo:
            with self._survived([category]):
                self._evaluate(fitted, category)
        self._write_state("running")

    def finish(self) -> Results:
        """Write what the run found, and give it to every process.

        Raises:
            Exception: what the first category failed with, where all of them did.
        """
        results = self.group.broadcast(self._written() if self.group.is_main else None)
        assert results is not None
        return results

    def _written(self) -> Results:
        found = {category: self.folder.result(category) for category in self.categories}
        results = Results.of(self.provenance, {c: one for c, one in found.items() if one is not None}, self.failed)
        if not results.categories:
            raise self._errors[0]
        results.write(self.folder.path)
        self._write_state("failed" if self.failed else "finished")
        write_report(self.folder.path)
        self.tracker.log("finished", metrics=results.mean, seconds=round(time.perf_counter() - self._begun, 3))
        return results

    @contextmanager
    def _survived(self, categories: Sequence[str]) -> Iterator[None]:
        """Note what goes wrong with these categories, and go on with the others; where nothing can be written, stop.

        Several processes stop at any error: the others do not know of it, and wait for the one that has it.
        """
        try:
            yield
        except OutputError:
            raise
        except Exception as error:
            if not self.group.is_single:
                raise
            reason = str(error) if isinstance(error, AnoframeError) else f"{type(error).__name__}: {error}"
            self._errors.append(error)
            for category in categories:
                self.failed[category] = reason
                where = None if isinstance(error, AnoframeError) else traceback.format_exc()
                self.tracker.log("failed", category=category, reason=reason, traceback=where)

    def _write_state(self, status: str) -> None:
        stages = {name: asdict(stage) for name, stage in self.clock.stages.items()}
        here = {"machine": machine(), "device": str(self.device)}
        self.folder.write_state(status=status, failed=self.failed, stages=stages, **here)

    # ------------------------------------------------------------------------------------------------ learning

    def _learned(self, fit: Fit) -> Checkpoint | None:
        """The detector that this run had learned before it was interrupted; None where it has to be learned."""
        found = self._saved(fit) if self.group.is_main else None
        if self.group.is_single:
            return found
        learned = found.detector.learned_state() if found else None
        state = self.group.broadcast(learned and {name: value.cpu() for name, value in learned.items()})
        if found or state is None:
            return found
        detector = self._unfitted()
        detector.load_learned_state(state)
        return self._checkpoint(detector, fit)

    def _saved(self, fit: Fit) -> Checkpoint | None:
        """What is in the run folder."""
        home = self.folder.checkpoint(fit.name)
        if not (home / "detector.json").exists():
            return None
        try:
            return load_checkpoint(home, self.device)
        except AnoframeError as error:
            self.tracker.log("warning", text=f"{fit.name} is learned again: {error}")
            return None

    def _learn(self, fit: Fit) -> Checkpoint:
        """Fit one detector, find its thresholds, and save it."""
        training = {category: self._samples(category, "train") for category in fit.categories}
        samples = [sample for chosen in training.values() for sample in chosen]
        self.tracker.log("fit", name=fit.name, images=len(samples))
        seed_everything(self.cfg.seed)
        with self.clock.stage("build"):
            detector = self._unfitted()
        how = self._training(fit)
        fit_detector(detector, self._prepared(detector, samples), len(samples), self.clock, how)
        if how.curves["phases"]:
            self.folder.write_curves(fit.name, how.curves)
        with self.clock.stage("threshold"):
            found = self._thresholds(training)
        fitted = self._checkpoint(detector, fit, found)
        if not self.group.is_main:
            return fitted
        with self.clock.stage("save"):
            home = self.folder.checkpoint(fit.name)
            description = save_checkpoint(home, fitted)
            self.folder.end_training(fit.name)
        self.tracker.log("checkpoint", fit=fit.name, folder=home, metadata=description)
        return fitted

    def _checkpoint(self, detector: Detector, fit: Fit, found: dict[str, Threshold | None] | None = None) -> Checkpoint:
        counts = {category: len(self._samples(category, "train")) for category in fit.categories}
        trained: dict[str, Any] = {
            key: self.provenance[key] for key in ("trainer", "selected") if key in self.provenance
        }
        model, seed = plain(self.cfg.model), self.cfg.seed
        return Checkpoint(detector, self.preprocessing, model, seed, counts, found or {}, trained)

    def _training(self, fit: Fit) -> FitContext:
        def look(detector: Detector) -> dict[str, Metrics]:
            found = {category: self._collected(detector, category) for category in fit.categories}
            return self.group.broadcast(
                {category: category_metrics(one, (), ()) for category, one in found.items() if one}
            )

        home = self.folder.training(fit.name) if self.group.is_main else None
        return FitContext(fit.name, self.cfg.seed, self._trainer, self.tracker, home, look, group=self.group)

    def _unfitted(self) -> Detector:
        return build_detector(plain(self.cfg.model), self.cfg.seed).to(self.device).eval()

    def _thresholds(self, training: dict[str, list[Sample]]) -> dict[str, Threshold | None]:
        share, rate = self.cfg.threshold.held_back, self.cfg.threshold.false_positive_rate
        if not share:
            return dict.fromkeys(training)
        try:
            size, seed = self.preprocessing.crop, self.cfg.seed
            quiet = FitContext("threshold", seed, self._trainer, Trackers(), group=self.group)
            found = estimate_thresholds(self._unfitted, self._prepared, training, share, rate, size, quiet)
        except AnoframeError as error:  # fewer images may be too few to learn from
            if not self.group.is_single:
                raise
            self.tracker.log("warning", text=f"no threshold from held-back images: {error}")
            return dict.fromkeys(training)
        for category in [category for category, threshold in found.items() if threshold is None]:
            self.tracker.log("warning", text=f"{category}: too few training images for a threshold, scores alone")
        return found

    # ------------------------------------------------------------------------------------------------ evaluating

    def _evaluate(self, fitted: Checkpoint, category: str) -> None:
        """Predict the test images of a category, measure, draw, and keep the result."""
        with self.clock.stage("predict"):
            found = self._collected(fitted.detector, category)
        if found is None:
            return
        with self.clock.stage("measure"):
            result = self._measured(fitted, category, found)
        threshold = fitted.thresholds.get(category)
        with self.clock.stage("draw"):
            pictures = write_category_pictures(
                self.folder.path, category, found, self.reader, self.cfg.report.pictures, threshold
            )
        self.folder.write_result(category, result)
        self._tell(category, result)
        home = self.folder.path / "pictures" / category
        self.tracker.log("pictures", category=category, folder=home, rows=pictures)
        self.tracker.log("curves", category=category, curves=result["curves"])

    def _collected(self, detector: Detector, category: str) -> CategoryPredictions | None:
        """Of all test images, each predicted by one process; None where another one has them."""
        samples, size = self._samples(category, "test"), self.preprocessing.crop
        return collect_shared(
            self.group, detector, partial(self._encoded, detector), samples, self.cfg.data.batch_size, size
        )

    def _measured(self, fitted: Checkpoint, category: str, found: CategoryPredictions) -> dict[str, Any]:
        """What `results/<category>.json` holds."""
        limits, pixel_thresholds = self.cfg.evaluation.aupro_limits, self.cfg.evaluation.pixel_thresholds
        threshold, defects = fitted.thresholds.get(category), int(found.labels.sum())
        return {
            "category": category,
            "metrics": category_metrics(found, limits, pixel_thresholds),
            "counts": {
                "train": fitted.train_images[category],
                "test_good": len(found.labels) - defects,
                "test_defect": defects,
                "defects_cropped_away": found.masks_lost_to_crop,
            },
            "backbone": fitted.detector.backbone.describe(),  # type: ignore[operator]
            "threshold": asdict(threshold) if threshold else None,
            "images": [
                {"name": sample.name, "defect": sample.defect, "score": float(score)}
                for sample, score in zip(found.samples, found.scores, strict=True)
            ],
            "curves": category_curves(found.image_sweep, found.pixel_sweep),
        }

    def _tell(self, category: str, result: dict[str, Any]) -> None:
        metrics, lost = result["metrics"], result["counts"]["defects_cropped_away"]
        if lost:
            images = f"{lost} defect image{'s' * (lost > 1)}"
            why = "it is too small for data.resize, or outside of data.crop"
            self.tracker.log("warning", text=f"{category}: of {images} no pixel of the mask is left: {why}")
        summary = ", ".join(f"{name} {percent(metrics[name])}" for name in ("image_auroc", "pixel_auroc", "aupro"))
        self.tracker.log("evaluated", category=category, summary=summary, metrics=metrics)

    def _samples(self, category: str, split: str) -> list[Sample]:
        return [sample for sample in self.dataset.samples(category) if sample.split == split]

    def _prepared(self, detector: Detector, samples: Sequence[Sample]) -> FeatureLoader:
        """The features of samples that every process is going to read."""
        encoded = self._encoded(detector, samples)
        encoded.prepare(self.group)
        return encoded

    def _encoded(self, detector: Detector, samples: Sequence[Sample]) -> FeatureLoader:
        data = self.cfg.data
        return FeatureLoader(detector, samples, self.reader, data.batch_size, data.workers, self.tracker, self.features)


def tasks_of(cfg: ConfigDict) -> list[Task]:
    """The stream of a config; AnoframeError where it says none."""
    return stream(cfg.protocol.tasks, cfg.categories, cfg.protocol.order_seed)


def _caches(cfg: ConfigDict, tracker: Tracker) -> list[Cache | None]:
    """The caches of images and of features, None for one that is off."""
    root, limit = cache_root(cfg.cache.folder), int(cfg.cache.max_gb * 1e9)
    warn = partial(tracker.log, "warning")
    return [Cache(root / kind, limit, warn) if cfg.cache[kind] else None for kind in KINDS]


def _provenance_of_training(phases: Sequence[str], section: dict[str, Any] | None) -> dict[str, Any]:
    """How a detector is trained, where it is; and a choice that is made on test data, said where nobody misses it.

    Args:
        phases: names of all that there may be: the last task of a stream may have had none.
        section: `trainer` of the config.
    """
    if section is None or not phases:
        return {}
    chosen = any(phase_settings(section, name).select == "best_on_test" for name in phases)
    made = {key: value for key, value in section.items() if f"trainer.{key}" not in RESULT_NEUTRAL_KEYS}
    return {"trainer": made, **({"selected": CHOSEN_ON_TEST} if chosen else {})}


def _provenance(cfg: ConfigDict, dataset: str, processes: int) -> dict[str, Any]:
    """What is known of it before anything is learned."""
    data = {"name": dataset, **{key: cfg.data[key] for key in _PREPROCESSING}}
    head = {"config": cfg.config_name, "protocol": cfg.protocol.name, "seed": cfg.seed, "data": data}
    several = {"processes": processes} if processes > 1 else {}  # sums over them round otherwise
    if cfg.protocol.name == "continual":
        head["stream"] = {"tasks": [list(task) for task in tasks_of(cfg)], "strategy": cfg.protocol.strategy}
    return {**head, **several, "model": plain(cfg.model), "versions": versions(), "git": git_commit()}
