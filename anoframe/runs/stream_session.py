"""A run on a stream of tasks: one detector learns them one after another, and all categories are tested after each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from anoframe.backbones.weights import read_tensors
from anoframe.config import ConfigDict
from anoframe.continual.results import JOINT, STREAM, stream_line, stream_results
from anoframe.continual.strategies import Strategy, build_strategy
from anoframe.errors import AnoframeError
from anoframe.evaluation.provenance import git_commit
from anoframe.evaluation.results import Metrics, category_metrics
from anoframe.models.base import ContinualDetector, Detector, Observation, Phase
from anoframe.runs.protocols import Fit
from anoframe.runs.session import Session, tasks_of
from anoframe.training.checkpoint import Checkpoint, save_checkpoint
from anoframe.training.seeding import seed_everything
from anoframe.training.stages import fit_detector
from anoframe.utils.files import read_json, write_json
from anoframe.utils.type_check import matches_type

KEY_METRIC = "pixel_auroc"  # of which averages and forgetting are shown first
_ROW = {"row": dict[str, dict[str, float | None]], "about": dict[str, Any]}


class StreamSession(Session):
    """A session whose fits are the tasks of a stream.

    What is done is what is there, as in any run: `checkpoint/task_00/` for a task that is learned, and
    `results/stream/task_00.json` for one whose row of the matrix is known.

    Args:
        cfg, output, start: as for `Session`.

    Raises:
        AnoframeError: as `Session`; a strategy that the detector cannot follow, or several processes.
    """

    def __init__(self, cfg: ConfigDict, output: str | Path, start: str):
        super().__init__(cfg, output, start)
        self.tasks = tasks_of(self.cfg)
        joint = self.cfg.protocol.strategy == JOINT
        self._lots = [tuple(name for task in self.tasks for name in task)] if joint else self.tasks  # learned at a time
        if self.cfg.threshold.held_back:
            self.tracker.log("warning", text="no thresholds are found on a stream of tasks: scores alone")

    def run_stream(self) -> None:
        """Learn and evaluate what of the stream is not done yet."""
        strategy: Strategy | None = None
        for task in range(len(self._lots)):
            if self._row(task) is None or self._is_last(task):
                strategy = strategy or self._strategy(task - 1)
                self._run_task(task, strategy)
            else:
                self.tracker.log("done", fit=name_of(task))
                strategy = None  # the next one begins with what this one left on disk
        self._write_state("running")

    # ------------------------------------------------------------------------------------------------ one task

    def _is_last(self, task: int) -> bool:
        return task == len(self._lots) - 1

    def _run_task(self, task: int, strategy: Strategy) -> None:
        """Learn one task, unless that is done; then test every category of the stream."""
        fitted = self._saved(self._fit(task))
        if fitted:
            self._put_back(strategy, fitted, task)
        else:
            fitted = self._learn_task(task, strategy)
        row = {name: self._tested(fitted, name, self._is_last(task)) for name in self.categories}
        if self._row(task) is None:
            about = self._about(task, fitted.detector)
            write_json(self._row_file(task), {"row": row, "about": about})
        self._write_stream()

    def _learn_task(self, task: int, strategy: Strategy) -> Checkpoint:
        samples = [sample for category in self._lots[task] for sample in self._samples(category, "train")]
        fit, begun = self._fit(task), time.perf_counter()
        self.tracker.log("fit", name=fit.name, images=len(samples))
        how = self._training(fit)
        how.seed = _seed_of(self.cfg.seed, task)
        seed_everything(how.seed)
        strategy.start(task, len(samples))
        batches = self._prepared(strategy.detector, samples)
        fit_detector(strategy.detector, batches, len(samples), self.clock, how, self._telling(strategy))
        strategy.finish()
        if how.curves["phases"]:
            self.folder.write_curves(fit.name, how.curves)
        self._note(fit.name, time.perf_counter() - begun, _trained(strategy.training_stages()))
        return self._save(fit, strategy)

    def _telling(self, strategy: Strategy) -> Callable[[], Sequence[Observation | Phase]]:
        """The steps of a strategy, asked for after each of them; what has grown meanwhile is told."""
        told = len(_expansions(strategy.detector))

        def training_stages() -> Sequence[Observation | Phase]:
            nonlocal told
            events = _expansions(strategy.detector)
            for event in events[told:]:
                pass
            told = len(events)
            return strategy.training_stages()

        return training_stages

    def _note(self, name: str, seconds: float, trained: int) -> None:
        """How long a task took to learn, of one that was interrupted the part after that; how much it trained."""
        state = self.folder.state
        self.folder.write_state(
            task_seconds={**state.get("task_seconds", {}), name: round(seconds, 3)},
            task_parameters={**state.get("task_parameters", {}), name: trained},
        )

    def _save(self, fit: Fit, strategy: Strategy) -> Checkpoint:
        """Keep what a task ends with, the detector's description last."""
        fitted, home = self._checkpoint(strategy.detector, fit), self.folder.checkpoint(fit.name)
        with self.clock.stage("save"):
            if state := strategy.state():
                home.mkdir(parents=True, exist_ok=True)
                save_file({name: value.contiguous().cpu() for name, value in state.items()}, home / _STRATEGY)
            description = save_checkpoint(home, fitted)
            self.folder.end_training(fit.name)
        self.tracker.log("checkpoint", fit=fit.name, folder=home, metadata=description)
        return fitted

    def _strategy(self, before: int) -> Strategy:
        """The detector with its strategy as the task `before` left them; -1 is before all tasks."""
        strategy = build_strategy(self.cfg.protocol.strategy, self._unfitted(), self.cfg.protocol.ewc_weight)
        if before >= 0:
            fitted = self._saved(self._fit(before))
            if fitted is None:
                raise AnoframeError(f"{self.folder.checkpoint(name_of(before))} is lost: start again with --overwrite")
            self._put_back(strategy, fitted, before)
        return strategy

    def _put_back(self, strategy: Strategy, fitted: Checkpoint, task: int) -> None:
        """What was learned up to a task, into the strategy that goes on from it."""
        strategy.detector.load_learned_state(fitted.detector.learned_state())
        kept = self.folder.checkpoint(name_of(task)) / _STRATEGY
        if kept.exists():
            strategy.load_state(read_tensors(kept))

    def _tested(self, fitted: Checkpoint, category: str, last: bool) -> Metrics:
        """Metrics of a category; after the last task its result and pictures too, as of any run."""
        if last:
            known = self.folder.result(category)
            if known is None:
                self._evaluate(fitted, category)
                known = self.folder.result(category)
            assert known is not None
            metrics: Metrics = known["metrics"]
            return metrics
        with self.clock.stage("predict"):
            found = self._collected(fitted.detector, category)
        assert found is not None
        with self.clock.stage("measure"):
            return category_metrics(found, self.cfg.evaluation.aupro_limits, self.cfg.evaluation.pixel_thresholds)

    # ------------------------------------------------------------------------------------------------ what is known

    def _fit(self, task: int) -> Fit:
        """A task as a fit: its detector has learned all categories up to it."""
        return Fit(name_of(task), tuple(name for names in self._lots[: task + 1] for name in names))

    def _row_file(self, task: int) -> Path:
        return self.folder.path / "results" / "stream" / f"{name_of(task)}.json"

    def _row(self, task: int) -> dict[str, Any] | None:
        """What is known after a task; None where it has to be found."""
        try:
            found = read_json(self._row_file(task))
        except AnoframeError:
            return None
        whole = isinstance(found, dict) and all(matches_type(found.get(key), kind) for key, kind in _ROW.items())
        return found if whole else None

    def _about(self, task: int, detector: Detector) -> dict[str, Any]:
        """What a task cost, how many numbers it trained and how many there are, and what has grown."""
        return {
            "seconds": self.folder.state["task_seconds"][name_of(task)],
            "params_total": detector.num_learned_values(),
            "params_trainable": self.folder.state["task_parameters"][name_of(task)],
            "growth": detector.growth() if isinstance(detector, ContinualDetector) else {},
        }

    def _write_stream(self) -> None:
        """`results/continual.json` from all rows that are known, and a word on them."""
        known = (self._row(task) for task in range(len(self._lots)))
        rows = [one for one in known if one is not None]
        head = {
            "seed": self.cfg.seed,
            "git": git_commit(),
            "strategy": self.cfg.protocol.strategy,
            "class_order": [name for task in self.tasks for name in task],
            "key_metric": KEY_METRIC,
        }
        found = stream_results(self.tasks, [one["row"] for one in rows], [one["about"] for one in rows], head)
        write_json(self.folder.path / "results" / STREAM, found)
        self.tracker.log("stream", results=found, summary=stream_line(found))


_STRATEGY = "strategy.safetensors"


def name_of(task: int) -> str:
    """Of a task's checkpoint and files."""
    return f"task_{task:02d}"


def _expansions(detector: Detector) -> list[dict[str, Any]]:
    """What has grown in a stream so far; nothing in a detector that cannot."""
    found: list[dict[str, Any]] = (
        detector.growth().get("expansions", []) if isinstance(detector, ContinualDetector) else []
    )
    return found


def _trained(steps: Sequence[Observation | Phase]) -> int:
    """How many parameters the phases of a task change, each counted once however many phases change it."""
    found = {id(one): one for step in steps if isinstance(step, Phase) for one in step.parameters.values()}
    return sum(one.numel() for one in found.values())


def _seed_of(seed: int, task: int) -> int:
    """Of what is drawn in a task: the first has the run's own, as if it were the only one."""
    return int(np.random.SeedSequence((seed, task)).generate_state(1)[0]) if task else seed
