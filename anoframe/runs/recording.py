"""Records of a run: run folder, events, stage times, failures, final results and the report."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

from anoframe.config import ConfigDict, to_plain
from anoframe.data.fingerprint import FINGERPRINT, FileHashes
from anoframe.data.manifest import Manifest
from anoframe.distributed.process_group import Group
from anoframe.errors import AnoframeError, OutputError
from anoframe.evaluation.disclosure import DISCLOSED
from anoframe.evaluation.provenance import machine
from anoframe.evaluation.results import Results
from anoframe.models.summary import MethodSummary
from anoframe.registry import check_arguments
from anoframe.report.category_record import PICTURE_INDEX
from anoframe.report.write import write_report
from anoframe.runs.folder import FollowerFolder, RunFolder
from anoframe.runs.plan import Plan
from anoframe.tracking.factory import open_trackers
from anoframe.tracking.timing import Stage, StageTimer
from anoframe.tracking.tracker import Status, Trackers, first_line

R = TypeVar("R", bound="Recorder")


class RecordedPlan(Protocol):
    """What a recorder needs to know of the plan of a run, whether it trains detectors or an encoder."""

    cfg: ConfigDict
    group: Group
    provenance: dict[str, Any]
    files: FileHashes
    manifest: Manifest | None

    @property
    def warnings(self) -> Sequence[str]: ...

    def folder(self, output: str | Path) -> Path:
        """Return the run folder below `output`."""


class Recorder:
    """Records what happens in a run. A context manager: it holds the run folder until it is closed.

    Every process of a run has a recorder, but only the one of the main process writes files and logs events.

    Args:
        plan: of the run.
        output: parent of run folders.
        start: "new", "resume" or "overwrite", as for `RunFolder`.

    Attributes:
        folder: the run folder.
        tracker: takes the events of the run.
        clock: times the stages of the run; a resumed run adds to the times of the interrupted one.
        failed: category -> why it has no result; empty for an encoder.

    Raises:
        AnoframeError: as `RunFolder`; the stage times of an interrupted run are damaged.
    """

    def __init__(self, plan: RecordedPlan, output: str | Path, start: str):
        self.failed: dict[str, str] = {}
        self._group = plan.group
        self._started = time.perf_counter()
        path = plan.folder(output)
        is_main = self._group.is_main
        self.folder = (
            RunFolder(path, plan.cfg, plan.provenance, start, plan.files, plan.manifest)
            if is_main
            else FollowerFolder(path)
        )
        try:
            self.tracker = open_trackers(plan.cfg, path) if is_main else Trackers()
            self.clock = StageTimer(self.tracker)
            self._restore_stage_times()
            folder = self.folder
            about = {key: plan.provenance[key] for key in DISCLOSED if key in plan.provenance}
            more = {"disclosed": about} if about else {}
            config = to_plain(plan.cfg)
            self.tracker.log("run", id=folder.id, folder=str(path), config=config, resumed=folder.resumed, **more)
            for text in [*plan.warnings, *self._resume_warnings()]:
                self.tracker.log("warning", text=text)
            self.write_state("running")  # with the machine, also for a run that is killed before its first result
        except BaseException:
            self.folder.release()
            raise

    def __enter__(self: R) -> R:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        interrupted = kind is not None and not issubclass(kind, Exception)
        status: Status = "interrupted" if interrupted else "failed" if kind or self.failed else "finished"
        try:
            if kind is not None:
                with suppress(OutputError):  # a full disk has raised already
                    self.write_state(status)
            self.tracker.close(status)
        finally:
            self.folder.release()

    def write_state(self, status: str) -> None:
        """Write status, failures and stage times to `run.json`."""
        stages = {name: asdict(stage) for name, stage in self.clock.stages.items()}
        environment = {"machine": machine(), "device": str(self._group.device)}
        self.folder.write_state(status=status, failed=self.failed, stages=stages, **environment)

    @contextmanager
    def isolate_decoration(self, name: str) -> Iterator[None]:
        """Report an error in something that no result depends on as a warning, and continue.

        Args:
            name: what is missing after an error: pictures, report, curves.
        """
        try:
            yield
        except Exception as error:
            text = f"{name} cannot be made: {first_line(error)}. The results are not affected"
            self.tracker.log("warning", text=text)

    def _resume_warnings(self) -> Iterator[str]:
        """Warn about what can change the bytes of the results of a resumed run, and is no reason to refuse it."""
        folder = self.folder
        if not folder.resumed:
            return
        if FINGERPRINT not in folder.state["provenance"]:
            yield "this run was begun by an earlier version, which did not record its data: they cannot be compared"
        earlier, threads = (folder.state.get("machine") or {}).get("threads"), machine()["threads"]
        if earlier not in (None, threads):
            yield (
                f"this run had {earlier} torch threads before, and continues with {threads}: its results can differ in "
                f"their last digits from those of an uninterrupted run. OMP_NUM_THREADS={earlier} gives equal ones"
            )

    def _restore_stage_times(self) -> None:
        for name, stage in self.folder.state["stages"].items():
            check_arguments(Stage, stage, f"{self.folder.path / 'run.json'} is damaged: its stage {name!r}")
            self.clock.stages[name] = Stage(**stage)


class RunRecorder(Recorder):
    """Recorder of a run that trains or tests detectors: its categories, their failures and the final results."""

    def __init__(self, plan: Plan, output: str | Path, start: str):
        super().__init__(plan, output, start)
        self._plan = plan
        self._errors: list[Exception] = []

    def log_summary(self, fit: str, task: int | None, summary: MethodSummary) -> None:
        """Log what a detector reports about its learned state, unless it reports nothing."""
        if not is_empty(summary):
            self.tracker.log("method_summary", fit=fit, task=task, **summary.to_json())

    @contextmanager
    def isolate_failures(self, categories: Sequence[str]) -> Iterator[None]:
        """Record an error as a failure of these categories and continue with the others.

        An output that cannot be written ends the run. So does any error where several processes work together: the
        others do not know of it and would wait forever.
        """
        try:
            yield
        except OutputError:
            raise
        except Exception as error:
            if not self._group.is_single:
                raise
            self._record_failure(categories, error)

    def lacks_pictures(self, category: str) -> bool:
        """Return whether an interruption has cost the pictures of a finished category. For the main process."""
        return not (self.folder.path / "pictures" / category / PICTURE_INDEX).exists()

    def _record_failure(self, categories: Sequence[str], error: Exception) -> None:
        is_expected = isinstance(error, AnoframeError)
        reason = str(error) if is_expected else f"{type(error).__name__}: {error}"
        details = None if is_expected else traceback.format_exc()
        self._errors.append(error)
        for category in categories:
            self.failed[category] = reason
            self.tracker.log("failed", category=category, reason=reason, traceback=details)

    def finish(self) -> Results:
        """Write `metrics.json`, `metrics.csv` and the report; return the results to every process.

        Raises:
            Exception: the first error, if every category failed.
        """
        results = self._group.broadcast(self._write_results() if self._group.is_main else None)
        assert results is not None
        return results

    def _write_results(self) -> Results:
        stored = {category: self.folder.result(category) for category in self._plan.categories}
        evaluated = {category: result for category, result in stored.items() if result is not None}
        begun = self.folder.state["provenance"]  # without the data, if an earlier version began this run
        provenance = {key: value for key, value in self._plan.provenance.items() if key in begun or key != FINGERPRINT}
        results = Results.from_categories(provenance, evaluated, self.failed)
        if not results.categories:
            raise self._errors[0]
        results.write(self.folder.path)
        self.write_state("failed" if self.failed else "finished")
        with self.isolate_decoration("report.html"):
            write_report(self.folder.path)
        seconds = round(time.perf_counter() - self._started, 3)
        decided = {"decisions": results.mean_decisions} if results.decisions else {}
        self.tracker.log("finished", metrics=results.mean, seconds=seconds, **decided)
        return results


def is_empty(summary: MethodSummary) -> bool:
    """Return whether a detector reports nothing."""
    return not any(summary.to_json().values())
