"""Write the events of a run to a W&B run: names of history, summary, tables and artifacts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anoframe.config import ConfigDict
from anoframe.tracking.pictures import PARTS, cut_strip, open_pictures

if TYPE_CHECKING:
    import wandb

MEDIA_EVENTS = ("checkpoint", "pictures", "references", "curves", "grid")  # tables, charts and artifacts
_AXES = {
    "roc": ("false positive rate", "true positive rate"),
    "pr": ("recall", "precision"),
    "pro": ("false positive rate", "overlap per region"),
    "pixel_roc": ("false positive rate", "true positive rate"),
    "pixel_pr": ("recall", "precision"),
}


class EventWriter:
    """Write each event with its method `on_<event>`.

    Args:
        run: open W&B run.
        cfg: section `wandb` of a config.
        row: number of the last row of the history.
        send_media: calls a function that writes tables, and survives its failure.

    Attributes:
        row: number of the current row; the caller increases it with each event.
    """

    def __init__(self, run: wandb.Run, cfg: ConfigDict, row: int, send_media: Callable[..., None]):
        self.row = row
        self._run, self._cfg, self._send_media = run, cfg, send_media
        self._seconds: Counter[str] = Counter()
        self._warnings: list[str] = []
        self._defined: set[str] = set()

    # -------------------------------------------------------------------------------------------- run and training

    def on_warning(self, text: str, **_: Any) -> None:
        """Collect warnings in the summary."""
        self._warnings.append(text)
        self._run.summary["warnings"] = self._warnings

    def on_fit(self, name: str, images: int, **_: Any) -> None:
        """Training images of a fit, in the summary."""
        self._run.summary[f"fit/{name}/images"] = images

    def on_stage(self, name: str, seconds: float, peak_bytes: int, **_: Any) -> None:
        """Total seconds and peak memory of a stage, in the summary."""
        self._seconds[name] += seconds  # type: ignore[assignment]
        totals = {f"stage/{name}/seconds": self._seconds[name], f"stage/{name}/peak_bytes": peak_bytes}
        self._run.summary.update(totals)

    def on_step(
        self,
        fit: str,
        phase: str,
        step: int,
        losses: Mapping[str, float],
        measurements: Mapping[str, float] | None = None,
        **others: Any,
    ) -> None:
        """Losses, measurements, learning rate, times and epoch, over the steps of their phase."""
        if step % self._cfg.log_freq:
            return
        prefix = f"train/{fit}/{phase}"
        self._set_axis(f"{prefix}/*", f"{prefix}/step")
        values = {"step": step, **{f"loss/{name}": value for name, value in losses.items()}, **others}
        values |= {f"measured/{name}": value for name, value in (measurements or {}).items()}
        self._log(values, prefix)

    def on_look(
        self, fit: str, phase: str, epoch: int, metrics: Mapping[str, Mapping[str, float | None]], **_: Any
    ) -> None:
        """Metrics on the test images during training, over the epochs of their phase."""
        prefix = f"look/{fit}/{phase}"
        self._set_axis(f"{prefix}/*", f"{prefix}/epoch")
        values = {f"{category}/{name}": value for category, row in metrics.items() for name, value in row.items()}
        self._log({"epoch": epoch, **values}, prefix)

    def on_checkpoint(self, fit: str, folder: Path, metadata: Mapping[str, Any] | None = None, **_: Any) -> None:
        """Checkpoint folder, or the file of an encoder, as an artifact of type `model`."""
        if not self._cfg.log_model:
            return
        import wandb

        name = re.sub(r"[^\w.-]", "_", f"{self._run.config['config_name']}-{fit}", flags=re.ASCII)[-128:]
        artifact = wandb.Artifact(name, "model", metadata=dict(metadata or {}))
        root = Path(folder)
        for path in [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file()):
            # A checkpoint is written once: upload it from its place, without a copy or a cache entry.
            relative = path.name if path == root else path.relative_to(root).as_posix()
            artifact.add_file(str(path.resolve()), relative, skip_cache=True, policy="immutable")
        self._run.log_artifact(artifact, aliases=["latest", f"run-{self._run.id}"])

    # -------------------------------------------------------------------------------------------- evaluation

    def on_evaluated(
        self,
        category: str,
        metrics: Mapping[str, float | None],
        decisions: Mapping[str, float | None] | None = None,
        **_: Any,
    ) -> None:
        """Metrics of a category; with a threshold, misses and false alarms as well."""
        self._log({**metrics, **(decisions or {})}, f"test/{category}")

    def on_pictures(self, category: str, folder: Path, rows: Sequence[Mapping[str, Any]], **_: Any) -> None:
        """Pictures of a category as a table: the parts of each strip, and its row of `pictures.json`."""
        import wandb

        keys = ("kind", "defect", "name", "score")
        table = wandb.Table(columns=[*PARTS, *keys])
        for row, strip in open_pictures(Path(folder), rows):
            table.add_data(*(wandb.Image(part) for part in cut_strip(strip).values()), *(row[key] for key in keys))
        self._log({category: table}, "pictures")

    def on_references(self, category: str, folder: Path, rows: Sequence[Mapping[str, Any]], **_: Any) -> None:
        """Training images of a few-shot run as a table: picture and name."""
        import wandb

        table = wandb.Table(columns=["reference", "name"])
        for row, picture in open_pictures(Path(folder), rows):
            table.add_data(wandb.Image(picture), row["name"])
        self._log({category: table}, "references")

    def on_curves(self, category: str, curves: Mapping[str, Mapping[str, Sequence[float]] | None], **_: Any) -> None:
        """Curves of a category as line plots."""
        import wandb

        charts = {}
        for name, curve in curves.items():
            if curve is not None:
                axes = _AXES.get(name, ("x", "y"))
                table = wandb.Table(columns=list(axes), data=list(map(list, zip(curve["x"], curve["y"], strict=True))))
                charts[name] = wandb.plot.line(table, *axes, title=f"{category}: {name}")
        self._log(charts, f"curves/{category}")

    def on_failed(self, category: str, reason: str, **_: Any) -> None:
        """Reason of a failed category, in the summary."""
        self._run.summary[f"failed/{category}"] = reason

    def on_finished(
        self,
        metrics: Mapping[str, float | None],
        seconds: float | None = None,
        decisions: Mapping[str, float | None] | None = None,
        **_: Any,
    ) -> None:
        """Mean metrics and mean rates of misses and false alarms, and the seconds of the run in the summary."""
        self._log({**metrics, **(decisions or {})}, "test/mean")
        if seconds is not None:
            self._run.summary["seconds"] = seconds

    # -------------------------------------------------------------------------------------------- streams and methods

    def on_stream(self, results: Mapping[str, Any], **_: Any) -> None:
        """ACC, forgetting, parameters and seconds after a task, over the tasks; and the matrices as a table."""
        self._set_axis("continual/*", "continual/task")
        last = results["cl_metrics"][-1]["by_metric"]
        metrics = {f"{name}/{key}": value for name, values in last.items() for key, value in values.items()}
        counts = {name: results[name][-1] for name in ("params_total", "params_trainable", "seconds")}
        counts |= class_values(results)
        task = len(results["cl_metrics"]) - 1
        self._log({"task": task, **metrics, **counts}, "continual", commit=False)
        self._send_media(self._write_matrices, results=results)  # same row; it is sent without the table if this fails

    def _write_matrices(self, results: Mapping[str, Any]) -> None:
        """Table with one row per trained and evaluated task, and one column per metric."""
        import wandb

        matrices: Mapping[str, Sequence[Sequence[float | None]]] = results["R"]
        tasks = [", ".join(task) for task in results["config"]["tasks"]]
        trained = range(len(results["cl_metrics"]))
        rows = [[i, j, name, *(R[i][j] for R in matrices.values())] for i in trained for j, name in enumerate(tasks)]
        table = wandb.Table(columns=["after task", "task", "categories", *matrices], data=rows)
        self._log({"R": table}, "continual")

    def on_method_summary(
        self,
        task: int | None = None,
        scalars: Mapping[str, float] | None = None,
        tables: Sequence[Mapping[str, Any]] = (),
        **_: Any,
    ) -> None:
        """Scalars of a method under their own names, over the tasks of a stream; and its tables.

        See `anoframe.models.summary.MethodSummary`.

        Args:
            task: of a stream, from 0; None without a stream.
            scalars: name -> value. The part before the last "/" is the group, with the axis `<group>/task`.
            tables: `name`, `columns` and `rows` of each.
        """
        values = dict(scalars or {})
        if task is not None:
            for name in scalars or {}:
                group, slash, _rest = name.rpartition("/")
                axis = f"{group or 'method'}/task"
                self._set_axis(f"{group}/*" if slash else name, axis)
                values[axis] = task
        self._log(values, commit=not tables)
        if tables:
            self._send_media(self._write_tables, tables=tables, task=task)  # same row; sent without them if this fails

    def _write_tables(self, tables: Sequence[Mapping[str, Any]], task: int | None) -> None:
        """Tables of a method: under `continual/` on a stream, otherwise under `method/`."""
        import wandb

        values: dict[str, Any] = {
            table["name"]: wandb.Table(
                columns=list(table["columns"]), data=[list(row) for row in table["rows"]], allow_mixed_types=True
            )
            for table in tables
        }
        if task is not None:  # set explicitly: W&B would add the task of the last `stream` event, which is earlier
            self._set_axis("continual/*", "continual/task")
            values["task"] = task
        self._log(values, "method" if task is None else "continual")

    # -------------------------------------------------------------------------------------------- grids

    def on_grid(
        self,
        tables: Mapping[str, tuple[Sequence[str], Sequence[Sequence[Any]]]],
        failed: Mapping[str, str],
        **_: Any,
    ) -> None:
        """Tables of a grid, and the reasons of failed cells in the summary."""
        import wandb

        media = {name: wandb.Table(columns=list(columns), data=list(rows)) for name, (columns, rows) in tables.items()}
        self._log(media, "grid")
        self._run.summary.update({f"failed/{cell}": reason for cell, reason in failed.items()})

    # -------------------------------------------------------------------------------------------- history

    def _set_axis(self, pattern: str, axis: str) -> None:
        """Draw the values of a name, or of a pattern that ends with `*`, over the values of `axis`."""
        if pattern not in self._defined:
            self._run.define_metric(pattern, step_metric=axis)
            self._defined.add(pattern)

    def _log(self, values: Mapping[str, Any], prefix: str = "", commit: bool = True) -> None:
        """Write values into the current row of the history, without those that are None.

        The summary keeps the last value of each name.

        Args:
            values: name -> value.
            prefix: put before each name, with a slash.
            commit: complete the row; otherwise W&B holds it back until the next call.
        """
        start = f"{prefix}/" if prefix else ""
        available = {f"{start}{name}": value for name, value in values.items() if value is not None}
        if available:
            self._run.log(available, step=self.row, commit=commit)


def class_values(results: Mapping[str, Any]) -> dict[str, float | None]:
    """Return calibration and novelty after the last task, of a stream whose images are classified; else nothing."""
    values = {name: results[name][-1] for name in ("ece", "category_top1") if results.get(name)}
    novelty = (results.get("novelty") or [None])[-1] or {}
    return values | {f"novelty/{name}/{key}": v for name, row in novelty.items() for key, v in row.items()}
