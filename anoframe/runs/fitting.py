"""Fits of a run: train a detector, find its thresholds, save it, and load what an interrupted run has saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from anoframe.config import to_plain
from anoframe.errors import AnoframeError
from anoframe.evaluation.decision import HeldBack, Threshold, estimate_threshold
from anoframe.models.base import ContinualDetector, Detector, Observation, Phase, TaskData
from anoframe.runs.evaluating import Evaluator
from anoframe.runs.plan import Plan
from anoframe.runs.protocols import Fit
from anoframe.runs.recording import RunRecorder
from anoframe.runs.samples import RunSamples
from anoframe.tracking.tracker import Tracker, Trackers
from anoframe.training.checkpoint import PROVENANCE_KEYS, Checkpoint, load_checkpoint, save_checkpoint
from anoframe.training.context import FitContext
from anoframe.training.seeding import seed_everything
from anoframe.training.stages import fit_learner
from anoframe.training.threshold import score_held_back
from anoframe.types import Sample
from anoframe.utils.files import write_atomic

ReadStages = Callable[[], Sequence[Observation | Phase]]


class Fitter:
    """Trains, saves and loads the detectors of a run."""

    def __init__(self, plan: Plan, samples: RunSamples, recorder: RunRecorder, evaluator: Evaluator):
        self._plan, self._cfg, self._group = plan, plan.cfg, plan.group
        self._samples, self._recorder, self._evaluator = samples, recorder, evaluator

    def load_or_train(self, fit: Fit) -> Checkpoint:
        """Return the detector that an interrupted run has saved; train one if there is none."""
        return self._load_in_every_process(fit) or self._train(fit)

    def load(self, fit: Fit) -> Checkpoint | None:
        """Load a detector from the run folder; None if it has none, or a damaged one."""
        folder = self._recorder.folder.checkpoint(fit.name)
        if not (folder / "detector.json").exists():
            return None
        try:
            return load_checkpoint(folder, self._group.device)
        except AnoframeError as error:
            self._recorder.tracker.log("warning", text=f"{fit.name} is trained again: {error}")
            return None

    def training_samples(self, categories: Sequence[str]) -> list[Sample]:
        """Return the training samples of categories, one category after another."""
        return [sample for samples in self._samples.train(categories).values() for sample in samples]

    def count_images(self, samples: Sequence[Sample]) -> int:
        """Return the number of training images of samples, which are their tiles if images are cut."""
        return len(self._samples.images(samples))

    def run_stages(
        self, detector: Detector, fit: Fit, seed: int, stages: ReadStages, samples: Sequence[Sample]
    ) -> None:
        """Run the training stages of a fit, log the detector's messages after each, and write the training curves.

        Args:
            stages: returns the stages, again after each of them.
            samples: training samples, in the order of the index.
        """
        if not stages():
            return
        training = self._training(fit, seed)
        features = self._samples.encode_for_all(detector, samples)
        read = log_messages(stages, detector, self._recorder.tracker)
        images = self._samples.images(samples)
        fit_learner(detector, features, len(images), self._recorder.clock, training, read, images)
        if training.curves["phases"]:
            self._recorder.folder.write_curves(fit.name, training.curves)

    def save(
        self,
        fit: Fit,
        detector: Detector,
        held_back: Mapping[str, HeldBack | None] | None = None,
        extra: Mapping[str, bytes] | None = None,
        training: Mapping[str, str] | None = None,
    ) -> Checkpoint:
        """Write the checkpoint of a fit and remove its training states; only the main process writes.

        Args:
            held_back: category -> scores of its held-back images, which its threshold is estimated on.
            extra: file name -> content of further files for the folder of the checkpoint, written before the
                description that marks it as complete.
            training: further entries of `Checkpoint.training`.
        """
        checkpoint = self._checkpoint(fit, detector, held_back or {}, training)
        if not self._group.is_main:
            return checkpoint
        folder = self._recorder.folder.checkpoint(fit.name)
        with self._recorder.clock.stage("save"):
            for name, content in (extra or {}).items():
                write_atomic(folder / name, content)
            description = save_checkpoint(folder, checkpoint)
            self._recorder.folder.end_training(fit.name)
        self._recorder.tracker.log("checkpoint", fit=fit.name, folder=folder, metadata=description)
        return checkpoint

    def _train(self, fit: Fit) -> Checkpoint:
        """Train one detector, find its thresholds and save it."""
        samples = self.training_samples(fit.training_categories)
        defects = sum(sample.is_defect for sample in samples)
        more = {"defects": defects} if defects else {}
        self._recorder.tracker.log("fit", name=fit.name, images=len(samples), **more)
        seed_everything(self._cfg.seed)
        with self._recorder.clock.stage("build"):
            detector = self._plan.new_detector()
        if isinstance(detector, ContinualDetector):
            detector.prepare_task(TaskData(tuple(samples), len(samples)))
        self.run_stages(detector, fit, self._cfg.seed, detector.training_stages, samples)
        with self._recorder.clock.stage("threshold"):
            held_back = self._held_back(fit)
        return self.save(fit, detector, held_back)

    def _load_in_every_process(self, fit: Fit) -> Checkpoint | None:
        """Load a detector in the main process, which sends its learned state to the others."""
        checkpoint = self.load(fit) if self._group.is_main else None
        if self._group.is_single:
            return checkpoint
        learned = checkpoint.detector.learned_state() if checkpoint else None
        state = self._group.broadcast(learned and {name: value.cpu() for name, value in learned.items()})
        if checkpoint or state is None:
            return checkpoint
        detector = self._plan.new_detector()
        detector.load_learned_state(state)
        return self._checkpoint(fit, detector, {})

    def _training(self, fit: Fit, seed: int) -> FitContext:
        folder = self._recorder.folder.training(fit.name) if self._group.is_main else None
        evaluate = partial(self._evaluator.evaluate_in_training, fit.categories)
        tracker = self._recorder.tracker
        return FitContext(fit.name, seed, self._plan.trainer, tracker, folder, evaluate, group=self._group)

    def _held_back(self, fit: Fit) -> dict[str, HeldBack | None]:
        """Score the held-back images of each category; None for a category without any, which has no threshold."""
        training, options = self._samples.train(fit.categories), self._cfg.threshold
        if not options.held_back:
            return dict.fromkeys(training)
        size, seed, tracker = self._plan.preprocessing.size, self._cfg.seed, self._recorder.tracker
        quiet = FitContext("threshold", seed, self._plan.trainer, Trackers(), group=self._group)
        build, encode, read = self._plan.new_detector, self._samples.encode_for_all, self._samples.images
        try:
            held_back = score_held_back(build, encode, read, training, options.held_back, size, quiet, options.fits)
        except AnoframeError as error:  # training may need more images than are left
            if not self._group.is_single:
                raise
            tracker.log("warning", text=f"no threshold from held-back images: {error}")
            return dict.fromkeys(training)
        for category in (name for name, scores in held_back.items() if scores is None):
            tracker.log("warning", text=f"{category}: too few training images for a threshold")
        return held_back

    def _checkpoint(
        self,
        fit: Fit,
        detector: Detector,
        held_back: Mapping[str, HeldBack | None],
        further: Mapping[str, str] | None = None,
    ) -> Checkpoint:
        samples, provenance = self._samples.train(fit.categories), self._plan.provenance
        counts = {category: sum(not s.synthetic for s in each) for category, each in samples.items()}
        training: dict[str, Any] = {key: provenance[key] for key in PROVENANCE_KEYS if key in provenance}
        training |= further or {}
        if self._plan.is_supervised:
            training["train_defects"] = {name: sum(s.is_defect for s in each) for name, each in samples.items()}
        if self._plan.synthetic:
            training["train_synthetic"] = {name: sum(s.synthetic for s in each) for name, each in samples.items()}
        model = to_plain(self._cfg.model)
        plan = self._plan
        ignored = {category: region for category, region in plan.ignored.items() if category in counts}
        rate = self._cfg.threshold.false_positive_rate
        limits: dict[str, Threshold | None] = {
            name: estimate_threshold(each.scores, each.peaks, rate) if each else None
            for name, each in held_back.items()
        }
        kept = {name: each for name, each in held_back.items() if each}
        return Checkpoint(
            detector,
            plan.preprocessing,
            model,
            self._cfg.seed,
            counts,
            limits,
            training,
            held_back=kept,
            tiling=plan.tiling,
            ignored=ignored,
        )


def log_messages(stages: ReadStages, detector: Detector, tracker: Tracker) -> ReadStages:
    """Wrap the reading of training stages: log the messages that the detector has added since the last reading."""
    logged = len(detector.messages())

    def read() -> Sequence[Observation | Phase]:
        nonlocal logged
        messages = detector.messages()
        for text in messages[logged:]:
            tracker.log("method_message", text=text)
        logged = len(messages)
        return stages()

    return read
