"""A classifier of labelled images whose classes arrive task by task: train, keep exemplars, evaluate, report.

Features of all images are computed once and stay in memory. Each task starts from the checkpoint of the one before, so
an interrupted run continues with the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from anoframe.config import ConfigDict, to_plain
from anoframe.continual.class_results import class_stream_line, class_stream_results
from anoframe.continual.names import JOINT
from anoframe.continual.results import STREAM
from anoframe.data.task_streams import Task
from anoframe.errors import AnoframeError
from anoframe.evaluation.provenance import git_commit
from anoframe.features.extraction import FeatureBatch
from anoframe.metrics.catalogue import METRICS
from anoframe.models.class_incremental.base import ClassIncrementalLearner
from anoframe.models.learner import TaskData
from anoframe.report.exemplars import write_exemplars
from anoframe.report.write import write_report
from anoframe.runs.class_checkpoint import load_classifier, read_exemplars, save_classifier
from anoframe.runs.class_evaluation import TestSet, evaluate_task
from anoframe.runs.class_plan import FROZEN, ClassPlan
from anoframe.runs.recording import Recorder, is_empty
from anoframe.runs.stream_run import count_trained, task_seed
from anoframe.training.context import FitContext
from anoframe.training.seeding import seed_everything
from anoframe.training.stages import fit_learner
from anoframe.types import Sample
from anoframe.utils.files import read_json, write_json
from anoframe.utils.paths import expand_path
from anoframe.utils.type_check import matches_type

_ROW = {"row": dict[str, dict[str, float | None]], "about": dict[str, Any], "facts": dict[str, Any]}
_STORE_BATCH = 1024  # images per batch that is copied into the feature store


@dataclass(frozen=True)
class ClassStream:
    """Result of a run.

    Attributes:
        folder: of the run.
        results: content of `results/continual.json`.
    """

    folder: Path
    results: dict[str, Any]


def run_class_stream(cfg: ConfigDict, output: str | Path = "runs", start: str = "new") -> ClassStream:
    """Train and evaluate a class-incremental classifier.

    Args:
        cfg: of `configs/__base__/class_stream.py`, or one that inherits it.
        output: parent of run folders.
        start: `"new"`, `"resume"` or `"overwrite"`.

    Raises:
        AnoframeError: as `ClassPlan`, `Recorder` and the training; or exemplars of an interrupted run have changed.
    """
    plan = ClassPlan(cfg)
    with Recorder(plan, expand_path(output, "output"), start) as recorder:
        run = ClassStreamRun(plan, recorder)
        results = run.run()
        recorder.write_state("finished")
        with recorder.isolate_decoration("report.html"):
            write_report(recorder.folder.path)
        last = results["cl_metrics"][-1]["by_metric"]["accuracy"]
        recorder.tracker.log("finished", metrics={f"accuracy/{key}": value for key, value in last.items()})
        return ClassStream(recorder.folder.path, results)


class ClassStreamRun:
    """Trains and evaluates the tasks one after another, and skips those that are done.

    A task is trained when `checkpoint/task_00/` exists, and evaluated when `results/stream/task_00.json` exists.
    """

    def __init__(self, plan: ClassPlan, recorder: Recorder):
        self._plan, self._recorder = plan, recorder
        self._strategy = str(plan.cfg.protocol.strategy)
        joined: Task = tuple(name for task in plan.tasks for name in task)
        self._fits: list[Task] = [joined] if self._strategy == JOINT else plan.tasks
        self._row_of_name = {plan.image_name(sample): row for row, sample in enumerate(plan.train.samples)}
        device = plan.group.device
        with recorder.clock.stage("features"):
            warn = partial(recorder.tracker.log, "warning")
            self._vectors = {split: plan.encode(split, warn).to(device) for split in ("train", "test")}
        classes = [sample.category for sample in plan.test.samples]
        self._test = TestSet(self._vectors["test"], classes, plan.tasks)

    def run(self) -> dict[str, Any]:
        """Run all tasks; returns the content of `results/continual.json`."""
        results: dict[str, Any] = {}
        for task in range(len(self._fits)):
            if self._read_row(task) is None:
                learner = self._load(task) or self._train(task)
                self._evaluate(task, learner)
            else:
                self._recorder.tracker.log("done", fit=_name(task))
            results = self._write_results()
        self._recorder.write_state("running")
        self._draw_exemplars()
        return results

    # ------------------------------------------------------------------------------------------------ training

    def _train(self, task: int) -> ClassIncrementalLearner:
        """Train a task, save its checkpoint and return what a later process would load from it."""
        if task and self._strategy == FROZEN:
            return self._previous(task)
        name, recorder = _name(task), self._recorder
        learner = self._previous(task) if task else self._plan.new_learner()
        rows = self._task_rows(task)
        seed, started = task_seed(self._plan.cfg.seed, task), time.perf_counter()
        recorder.tracker.log("class_fit", name=name, images=len(rows.new), exemplars=len(rows.kept))
        seed_everything(seed)
        samples = tuple(self._plan.train.samples[row] for row in (*rows.new, *rows.kept))
        learner.start_task(task, TaskData(samples, len(rows.new)))
        context = FitContext(name, seed, self._plan.trainer, recorder.tracker, recorder.folder.training(name))
        batches = self._batches(samples, [*rows.new, *rows.kept])
        fit_learner(learner, batches, len(samples), recorder.clock, context)
        trained = count_trained(learner.training_stages())
        learner.finish_task()
        if context.curves["phases"]:
            recorder.folder.write_curves(name, context.curves)
        self._record(name, time.perf_counter() - started, trained)
        self._save(task, learner.eval(), rows)
        loaded = self._load(task)
        assert loaded is not None
        return loaded

    def _previous(self, task: int) -> ClassIncrementalLearner:
        """Load the classifier that a task starts from."""
        before = 0 if self._strategy == FROZEN else task - 1
        learner = self._load(before)
        if learner is None:
            lost = self._recorder.folder.checkpoint(_name(before))
            raise AnoframeError(f"the checkpoint {lost} is missing or damaged: start again with --overwrite")
        return learner

    def _load(self, task: int) -> ClassIncrementalLearner | None:
        return load_classifier(self._recorder.folder.checkpoint(_name(task)), self._plan.new_learner())

    def _task_rows(self, task: int) -> _TaskRows:
        """Return the training images of a task, and the exemplars of the tasks before."""
        names = set(self._fits[task])
        new = [row for row, sample in enumerate(self._plan.train.samples) if sample.category in names]
        return _TaskRows(new, self._exemplars(task - 1) if task else [])

    def _exemplars(self, task: int) -> list[int]:
        """Return the rows of the exemplars that were kept after a task."""
        folder = self._recorder.folder.checkpoint(_name(task))
        return read_exemplars(folder, self._row_of_name, self._plan.hashes["train"])

    def _batches(self, samples: tuple[Sample, ...], rows: list[int]) -> Iterator[FeatureBatch]:
        for start in range(0, len(rows), _STORE_BATCH):
            chosen = torch.tensor(rows[start : start + _STORE_BATCH], device=self._vectors["train"].device)
            masks = torch.zeros(len(chosen), 1, 1, 1, dtype=torch.bool)
            yield FeatureBatch(self._vectors["train"][chosen], masks, samples[start : start + _STORE_BATCH])

    def _save(self, task: int, learner: ClassIncrementalLearner, rows: _TaskRows) -> None:
        plan, recorder = self._plan, self._recorder
        order = [*rows.new, *rows.kept]
        kept = [order[place] for place in learner.exemplar_rows.tolist()]
        exemplars = [
            {
                "name": plan.image_name(plan.train.samples[row]),
                "class": plan.train.samples[row].category,
                "sha256": plan.hashes["train"][row],
            }
            for row in kept
        ]
        facts = {
            "model": to_plain(plan.cfg.model),
            "backbone": plan.encoder.describe(),
            "preprocessing": plan.provenance["data"],
            "seed": plan.cfg.seed,
        }
        folder = recorder.folder.checkpoint(_name(task))
        with recorder.clock.stage("save"):
            description = save_classifier(folder, learner, exemplars, facts)
            recorder.folder.end_training(_name(task))
        recorder.tracker.log("checkpoint", fit=_name(task), folder=folder, metadata=description)

    def _record(self, name: str, seconds: float, parameters: int) -> None:
        """Write the seconds of training (since the last resume) and the number of trained parameters to `run.json`."""
        folder = self._recorder.folder
        folder.write_state(
            task_seconds={**folder.state.get("task_seconds", {}), name: round(seconds, 3)},
            task_parameters={**folder.state.get("task_parameters", {}), name: parameters},
        )

    # ------------------------------------------------------------------------------------------------ results

    def _evaluate(self, task: int, learner: ClassIncrementalLearner) -> None:
        cfg, state = self._plan.cfg, self._recorder.folder.state
        seen = len(self._plan.tasks) if self._strategy == JOINT else task + 1
        options = cfg.evaluation
        with self._recorder.clock.stage("evaluate"):
            metrics, facts = evaluate_task(
                learner, self._test, seen, options.bins, options.mixed_batch_size, task_seed(cfg.seed, task)
            )
        summary = learner.summary()
        is_frozen = self._strategy == FROZEN and task > 0
        kept = self._exemplars(0 if is_frozen else task)
        about = {
            "seconds": 0.0 if is_frozen else state["task_seconds"][_name(task)],
            "params_total": learner.num_learned_values(),
            "params_trainable": 0 if is_frozen else state["task_parameters"][_name(task)],
            "exemplars": {"images": len(kept), "bytes": sum(map(self._plan.train.num_bytes, kept))},
            "summary": summary.to_json(),
        }
        write_json(self._row_path(task), {"row": metrics, "about": about, "facts": facts})
        if not is_empty(summary):
            self._recorder.tracker.log("method_summary", fit=_name(task), task=task, **summary.to_json())

    def _write_results(self) -> dict[str, Any]:
        """Write `results/continual.json` from all rows that exist, and log it."""
        rows = [row for row in map(self._read_row, range(len(self._fits))) if row is not None]
        plan = self._plan
        head = {
            "seed": plan.cfg.seed,
            "git": git_commit(),
            "strategy": self._strategy,
            "class_order": [name for task in plan.tasks for name in task],
        }
        results = class_stream_results(plan.tasks, rows, head)
        write_json(self._recorder.folder.path / "results" / STREAM, results)
        self._recorder.folder.write_state(classifier=_tiles(results))
        self._recorder.tracker.log("stream", results=results, summary=class_stream_line(results))
        return results

    def _read_row(self, task: int) -> dict[str, Any] | None:
        """Read the row of a task; None if it has none, or a damaged one."""
        try:
            row = read_json(self._row_path(task))
        except AnoframeError:
            return None
        is_whole = isinstance(row, dict) and all(matches_type(row.get(key), kind) for key, kind in _ROW.items())
        return row if is_whole else None

    def _row_path(self, task: int) -> Path:
        return self._recorder.folder.path / "results" / "stream" / f"{_name(task)}.json"

    def _draw_exemplars(self) -> None:
        last = 0 if self._strategy == FROZEN else len(self._fits) - 1
        count, recorder = self._plan.cfg.report.exemplars, self._recorder
        with recorder.isolate_decoration("the pictures of exemplars"), recorder.clock.stage("draw"):
            write_exemplars(recorder.folder.path, self._plan.train, self._exemplars(last), count)


@dataclass(frozen=True)
class _TaskRows:
    """Rows of the training images of a task: its new images, and exemplars of tasks before."""

    new: list[int]
    kept: list[int]


def _name(task: int) -> str:
    """Return the name of a task in the run folder."""
    return f"task_{task:02d}"


def _tiles(results: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the headline figures of `run.json`: after the last task, and over all tasks."""
    last = results["cl_metrics"][-1]["by_metric"]
    energy = [entry["energy"]["auroc"] for entry in results["novelty"] if entry]
    return {
        **{METRICS[key].title: last["accuracy"][key] for key in ("acc", "aia", "fm", "bwt")},
        f"{METRICS['acc'].title}, mixed batches": last["accuracy_mixed"]["acc"],
        "ECE": results["ece"][-1],
        "novelty AUROC, energy": sum(energy) / len(energy) if energy else None,
    }
