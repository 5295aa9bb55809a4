"""Runs with the protocol `continual`: one detector is trained on task after task and tested on all categories."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from safetensors.torch import save

from anoframe.continual.names import JOINT
from anoframe.continual.strategies import Strategy
from anoframe.data.task_streams import Task
from anoframe.errors import AnoframeError
from anoframe.evaluation.class_measures import ClassifyingDetector, measure_classes
from anoframe.evaluation.results import Metrics
from anoframe.models.base import Detector, Observation, Phase, TaskData
from anoframe.runs.context import RunContext
from anoframe.runs.exemplar_files import DIGEST, FILE, count_bytes, describe_exemplars, hash_content, read_exemplars
from anoframe.runs.protocols import Fit
from anoframe.runs.stream_rows import IMAGE_KEY_METRIC, StreamRows
from anoframe.training.checkpoint import Checkpoint, read_training
from anoframe.training.seeding import seed_everything
from anoframe.types import Sample
from anoframe.utils.tensor_files import read_tensors

_STRATEGY_FILE = "strategy.safetensors"  # in the checkpoint of a task: what the strategy needs for the next task


class StreamRun:
    """Trains and evaluates the tasks of a stream, one after another, and skips those that are done.

    A task is trained when `checkpoint/task_00/` exists, and evaluated when `results/stream/task_00.json` exists.
    """

    def __init__(self, run: RunContext):
        self._run, self._plan, self._recorder = run, run.plan, run.recorder
        self._fits = plan_task_fits(run.plan.tasks, run.plan.cfg.protocol.strategy)
        self._rows = StreamRows(run.plan, run.recorder.folder.path, self._fits)

    def run(self) -> None:
        """Run all tasks."""
        if self._plan.cfg.threshold.held_back:
            text = "a stream of tasks has no thresholds, only scores are available"
            self._recorder.tracker.log("warning", text=text)
        strategy: Strategy | None = None
        for task, fit in enumerate(self._fits):
            if self._rows.read(fit) is None or self._is_last(task):
                strategy = strategy or self._strategy_before(task)
                self._run_task(task, strategy)
            else:
                self._recorder.tracker.log("done", fit=fit.name)
                strategy = None  # the next task starts from the checkpoint of this one
        self._recorder.write_state("running")

    def _is_last(self, task: int) -> bool:
        return task == len(self._fits) - 1

    def _run_task(self, task: int, strategy: Strategy) -> None:
        """Train one task unless its checkpoint exists, then evaluate every category of the stream."""
        fit = self._fits[task]
        checkpoint = self._run.fitter.load(fit)
        if checkpoint:
            self._restore(strategy, checkpoint, fit)
        else:
            checkpoint = self._train_task(task, strategy)
        metrics = {category: self._evaluate(task, checkpoint, category) for category in self._plan.categories}
        if self._rows.read(fit) is None:
            self._write_row(task, checkpoint, metrics)
        self._rows.write_results(self._recorder.tracker)

    def _train_task(self, task: int, strategy: Strategy) -> Checkpoint:
        fit, fitter, started = self._fits[task], self._run.fitter, time.perf_counter()
        data, seed = self._task_data(task, strategy), task_seed(self._plan.cfg.seed, task)
        self._log_task(fit, data)
        seed_everything(seed)
        strategy.prepare(task, data)
        strategy.start(task, fitter.count_images(data.samples[: data.num_new]))
        fitter.run_stages(strategy.detector, fit, seed, strategy.training_stages, data.samples)
        strategy.finish()
        extra, training = _strategy_files(strategy), {}
        if strategy.has_memory:
            exemplars = [data.samples[row] for row in strategy.exemplar_rows()]
            content = describe_exemplars(exemplars, strategy.exemplar_class, self._plan.dataset.root)
            extra[FILE], training[DIGEST] = content, hash_content(content)
            self._record(fit, task_exemplars={"images": len(exemplars), "bytes": count_bytes(exemplars)})
        parameters = count_trained(strategy.training_stages())
        self._record(fit, task_seconds=round(time.perf_counter() - started, 3), task_parameters=parameters)
        return fitter.save(fit, strategy.detector, extra=extra, training=training)

    def _task_data(self, task: int, strategy: Strategy) -> TaskData:
        """Return the training images of a task: the new ones, then the exemplars that the task before has left."""
        new = self._run.fitter.training_samples(self._fits[task].training_categories)
        exemplars = self._exemplars(self._fits[task - 1]) if task and strategy.has_memory else ()
        return TaskData((*new, *exemplars), len(new))

    def _exemplars(self, fit: Fit) -> tuple[Sample, ...]:
        """Read the exemplars that a finished task has left."""
        folder = self._recorder.folder.checkpoint(fit.name)
        digest = read_training(folder).get(DIGEST)
        candidates = self._run.fitter.training_samples(fit.categories)
        return read_exemplars(folder, digest, candidates, self._plan.dataset.root)

    def _log_task(self, fit: Fit, data: TaskData) -> None:
        defects = sum(sample.is_defect for sample in data.samples)
        more = {"defects": defects} if defects else {}
        self._recorder.tracker.log("fit", name=fit.name, images=len(data.samples), **more)

    def _record(self, fit: Fit, **values: Any) -> None:
        """Write values of a task to `run.json`: seconds of training (since the last resume), numbers of parameters."""
        folder = self._recorder.folder
        folder.write_state(**{name: {**folder.state.get(name, {}), fit.name: value} for name, value in values.items()})

    def _strategy_before(self, task: int) -> Strategy:
        """Return the strategy, with its detector, in the state that the task before left."""
        strategy = self._plan.new_strategy(self._plan.new_detector())
        if task > 0:
            fit = self._fits[task - 1]
            checkpoint = self._run.fitter.load(fit)
            if checkpoint is None:
                lost = self._recorder.folder.checkpoint(fit.name)
                raise AnoframeError(f"the checkpoint {lost} is missing or damaged: start again with --overwrite")
            self._restore(strategy, checkpoint, fit)
        return strategy

    def _restore(self, strategy: Strategy, checkpoint: Checkpoint, fit: Fit) -> None:
        """Load what was learned up to a task into the strategy and its detector."""
        strategy.detector.load_learned_state(checkpoint.detector.learned_state())
        path = self._recorder.folder.checkpoint(fit.name) / _STRATEGY_FILE
        if path.exists():
            strategy.load_state(read_tensors(path))

    def _evaluate(self, task: int, checkpoint: Checkpoint, category: str) -> Metrics:
        """Return the metrics of a category; after the last task write its result and pictures as well."""
        if not self._is_last(task):
            return self._run.evaluator.measure(checkpoint.detector, category)
        folder = self._recorder.folder
        if folder.result(category) is None:
            self._run.evaluator.evaluate(checkpoint, category)
        elif self._recorder.lacks_pictures(category):
            self._run.evaluator.draw_again(checkpoint, category)
        result = folder.result(category)
        assert result is not None
        metrics: Metrics = result["metrics"]
        return metrics

    def _write_row(self, task: int, checkpoint: Checkpoint, metrics: dict[str, Metrics]) -> None:
        fit, detector, state = self._fits[task], checkpoint.detector, self._recorder.folder.state
        summary = detector.summary()
        about = {
            "seconds": state["task_seconds"][fit.name],
            "params_total": detector.num_learned_values(),
            "params_trainable": state["task_parameters"][fit.name],
            "summary": summary.to_json(),
            **self._about_classes(task, detector),
        }
        if fit.name in state.get("task_exemplars", {}):
            about["exemplars"] = state["task_exemplars"][fit.name]
        self._rows.write(fit, metrics, about)
        self._recorder.log_summary(fit.name, task, summary)

    def _about_classes(self, task: int, detector: Detector) -> dict[str, Any]:
        """Return what is measured of a detector that classifies images: top-1, calibration, novelty; else nothing."""
        about: dict[str, Any] = {} if detector.has_maps else {"key_metric": IMAGE_KEY_METRIC}
        if not isinstance(detector, ClassifyingDetector):
            return about
        with self._recorder.clock.stage("classify"):
            seen = self._fits[task].categories
            outputs = {name: self._run.evaluator.classify(detector, name) for name in self._plan.categories}
            return about | {"classes": measure_classes(detector.class_names, outputs, seen)}


def _strategy_files(strategy: Strategy) -> dict[str, bytes]:
    """Return the files of a checkpoint with what the strategy needs for the next task, by name."""
    state = strategy.state()
    return {_STRATEGY_FILE: save({name: value.contiguous().cpu() for name, value in state.items()})} if state else {}


def plan_task_fits(tasks: Sequence[Task], strategy: str) -> list[Fit]:
    """Plan one fit per task, or a single fit on all tasks for the strategy "joint"."""
    groups = [tuple(category for task in tasks for category in task)] if strategy == JOINT else tasks
    fits: list[Fit] = []
    for number, group in enumerate(groups):
        earlier = fits[-1].categories if fits else ()
        fits.append(Fit(f"task_{number:02d}", (*earlier, *group), tuple(group)))
    return fits


def count_trained(stages: Sequence[Observation | Phase]) -> int:
    """Count the parameters that the phases of a task train; one that several phases train counts once."""
    phases = (stage for stage in stages if isinstance(stage, Phase))
    parameters = {id(parameter): parameter for phase in phases for parameter in phase.parameters.values()}
    return sum(parameter.numel() for parameter in parameters.values())


def task_seed(seed: int, task: int) -> int:
    """Return the seed of a task; the first task has the seed of the run, as if it were the only one."""
    return int(np.random.SeedSequence((seed, task)).generate_state(1)[0]) if task else seed
