"""Results of a stream in the run folder: one row per task, and `results/continual.json` from all rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anoframe.continual.results import STREAM, stream_line, stream_results
from anoframe.errors import AnoframeError
from anoframe.evaluation.provenance import git_commit
from anoframe.evaluation.results import Metrics
from anoframe.runs.plan import Plan
from anoframe.runs.protocols import Fit
from anoframe.tracking.tracker import Tracker
from anoframe.utils.files import read_json, write_json
from anoframe.utils.type_check import matches_type

KEY_METRIC = "pixel_auroc"  # whose averages and forgetting come first in results/continual.json
IMAGE_KEY_METRIC = "image_auroc"  # the same of a method without anomaly maps
_ROW = {"row": dict[str, dict[str, float | None]], "about": dict[str, Any]}


class StreamRows:
    """The rows of the performance matrix: metrics of every category after each task.

    A row is `results/stream/<task>.json`; a task whose row exists is done.

    Args:
        plan: of the run.
        folder: of the run.
        fits: one per row.
    """

    def __init__(self, plan: Plan, folder: Path, fits: Sequence[Fit]):
        self._plan, self._folder, self._fits = plan, folder / "results", fits

    def read(self, fit: Fit) -> dict[str, Any] | None:
        """Read the row of a task; None if it has none, or a damaged one."""
        try:
            row = read_json(self._path(fit))
        except AnoframeError:
            return None
        is_whole = isinstance(row, dict) and all(matches_type(row.get(key), kind) for key, kind in _ROW.items())
        return row if is_whole else None

    def write(self, fit: Fit, metrics: Mapping[str, Metrics], about: Mapping[str, Any]) -> None:
        """Write the row of a task.

        Args:
            metrics: category -> its metrics after the task.
            about: `seconds`, `params_total`, `params_trainable` and `summary` of the task; `key_metric`, `classes` and
                `exemplars` of methods that have them, see `stream_results`.
        """
        write_json(self._path(fit), {"row": metrics, "about": about})

    def write_results(self, tracker: Tracker) -> None:
        """Write `results/continual.json` from all rows that exist, and log it."""
        rows = [row for row in map(self.read, self._fits) if row is not None]
        plan = self._plan
        head = {
            "seed": plan.cfg.seed,
            "git": git_commit(),
            "strategy": plan.cfg.protocol.strategy,
            "class_order": [category for task in plan.tasks for category in task],
            "key_metric": rows[-1]["about"].get("key_metric", KEY_METRIC) if rows else KEY_METRIC,
        }
        results = stream_results(plan.tasks, [row["row"] for row in rows], [row["about"] for row in rows], head)
        write_json(self._folder / STREAM, results)
        tracker.log("stream", results=results, summary=stream_line(results))

    def _path(self, fit: Fit) -> Path:
        return self._folder / "stream" / f"{fit.name}.json"
