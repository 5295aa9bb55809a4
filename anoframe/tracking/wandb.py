"""Weights & Biases: everything a run tells, as a W&B run of the same id, with or without an account or a network."""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anoframe.config import ConfigDict
from anoframe.tracking.pictures import PARTS, cut, open_pictures
from anoframe.tracking.tracker import Status, first_line

if TYPE_CHECKING:
    import wandb

_EXIT_CODES: dict[Status, int] = {"finished": 0, "failed": 1, "interrupted": 255}  # 255: W&B shows it as killed
_INIT_SECONDS = 60.0  # for the service to answer; then the run goes on offline
_FINISH_SECONDS = 300.0  # for uploads at the end; what is left can be sent later
_FLUSH_SECONDS = 1.0  # what a kill can cost; W&B itself writes every 15 seconds
_HEADER_BYTES = 7  # of a run file without a record
_MEDIA = ("checkpoint", "pictures", "curves", "grid")
_AXES = {
    "roc": ("false positive rate", "true positive rate"),
    "pr": ("recall", "precision"),
    "pro": ("false positive rate", "overlap per region"),
    "pixel_roc": ("false positive rate", "true positive rate"),
    "pixel_pr": ("recall", "precision"),
}


class WandB:
    """Sends events to Weights & Biases, or keeps them in `<run folder>/wandb/` to be sent later.

    Nothing is ever asked on the terminal. Without credentials, with credentials that the service refuses, or where it
    cannot be reached within seconds, the run is kept offline, and one warning says how to send it.

    Args:
        cfg: the section `wandb` of a config.
        folder: of the run.
        tell: `log` of the trackers that the user sees, for what this one has to say itself.
    """

    def __init__(self, cfg: ConfigDict, folder: Path, tell: Callable[..., None]):
        self._cfg = cfg
        self._folder = folder.resolve()
        self._tell = tell
        self._run: wandb.Run | None = None
        self._row = 0
        self._seconds: Counter[str] = Counter()
        self._warnings: list[str] = []
        self._defined: set[str] = set()
        self._media_failed = False
        self._data_folder_is_ours = False

    def log(self, event: str, **fields: Any) -> None:
        if event == "run":
            self._start(**fields)
        elif self._run is not None:
            self._row += 1
            send = getattr(self, f"_on_{event}", None)
            if send is None:
                return
            if event in _MEDIA:
                self._send_media(send, self._run, fields)
            else:
                send(self._run, **fields)

    def close(self, status: Status) -> None:
        """End the W&B run. Waits for uploads, five minutes at most."""
        run, self._run = self._run, None
        try:
            if run is not None:
                run.summary["status"] = status
                run.finish(exit_code=_EXIT_CODES[status])
        except TimeoutError:
            self._tell("warning", text=f"not all was sent to Weights & Biases; later: {self._sync('--include-online')}")
        finally:
            if self._data_folder_is_ours:
                os.environ.pop("WANDB_DATA_DIR", None)
                self._data_folder_is_ours = False

    def _send_media(self, send: Callable[..., None], run: wandb.Run, fields: Mapping[str, Any]) -> None:
        """For tables and artifacts W&B asks the service and waits: the first that fails is the last, numbers go on."""
        if self._media_failed:
            return
        try:
            send(run, **fields)
        except Exception as error:
            self._media_failed = True
            text = f"Weights & Biases gets no more pictures, curves and checkpoints of this run: {first_line(error)}"
            self._tell("warning", text=f"{text}. Metrics go on, and the run folder has everything")

    # -------------------------------------------------------------------------------------------- start

    def _start(self, id: str, config: Mapping[str, Any], resumed: bool = False, **_: Any) -> None:
        mode, reason = _mode()
        if mode == "disabled":
            self._tell("warning", text=f"{reason}: Weights & Biases gets nothing of this run")
            return
        # Tables and artifacts are staged there until they are sent, and read from there by `wandb sync`.
        self._data_folder_is_ours = "WANDB_DATA_DIR" not in os.environ
        os.environ.setdefault("WANDB_DATA_DIR", str(self._folder / "wandb"))
        # Rows of the history are numbered by the events of the log, which goes on where a run was resumed: W&B drops
        # rows whose number is not above the last, and offline it does not know what the last was.
        self._row = _lines(self._folder / "log.jsonl")
        _remove_empty(self._folder / "wandb")
        self._run, reason = self._open(mode, reason, id, config)
        if self._run.settings.mode == "offline":
            text = f"Weights & Biases is offline ({reason}). To send this run later: {self._sync()}"
            self._tell("warning", text=text)
        else:
            self._tell("tracking", text=f"Weights & Biases: {self._run.url}")

    def _open(self, mode: str, reason: str, id: str, config: Mapping[str, Any]) -> tuple[wandb.Run, str]:
        """A W&B run, offline where the service does not take it, and why."""
        import wandb

        try:
            return self._init(mode, id, config), reason
        except Exception as error:
            if mode == "offline":
                raise
            wandb.teardown()  # or the id stays in use
            return self._init("offline", id, config), first_line(error)

    def _init(self, mode: str, id: str, config: Mapping[str, Any]) -> wandb.Run:
        import wandb

        asked = self._cfg
        flush = {"x_transaction_log_flush_interval": _FLUSH_SECONDS}  # not a promise of W&B: later it may be gone
        known = {name: value for name, value in flush.items() if name in wandb.Settings.model_fields}
        return wandb.init(
            mode=mode,  # type: ignore[arg-type]
            id=id,
            resume="allow",
            reinit="create_new",  # another run that the user has open in this process stays as it is
            dir=self._folder,
            config=dict(config),
            project=asked.project or os.environ.get("WANDB_PROJECT") or "anoframe",
            entity=asked.entity or os.environ.get("WANDB_ENTITY"),
            name=asked.name or os.environ.get("WANDB_NAME") or _name(self._folder),
            tags=list(asked.tags) or None,
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=_INIT_SECONDS,
                finish_timeout=_FINISH_SECONDS,
                finish_timeout_raises=True,
                **known,  # type: ignore[arg-type]
            ),
        )

    def _sync(self, *options: str) -> str:
        """The command that sends what is kept of this run, also what was kept before it was resumed."""
        return shlex.join(["wandb", "sync", *options, str(self._folder / "wandb")])

    # -------------------------------------------------------------------------------------------- events

    def _on_warning(self, run: wandb.Run, text: str, **_: Any) -> None:
        self._warnings.append(text)
        run.summary["warnings"] = self._warnings

    def _on_fit(self, run: wandb.Run, name: str, images: int, **_: Any) -> None:
        run.summary[f"fit/{name}/images"] = images

    def _on_stage(self, run: wandb.Run, name: str, seconds: float, peak_bytes: int, **_: Any) -> None:
        self._seconds[name] += seconds  # type: ignore[assignment]
        run.summary.update({f"stage/{name}/seconds": self._seconds[name], f"stage/{name}/peak_bytes": peak_bytes})

    def _on_step(
        self, run: wandb.Run, fit: str, phase: str, step: int, losses: Mapping[str, float], **measured: Any
    ) -> None:
        """Losses, learning rate, times and epoch, drawn over the steps of their phase."""
        if step % self._cfg.log_freq:
            return
        prefix = f"train/{fit}/{phase}"
        self._draw_over(run, prefix, "step")
        values = {"step": step, **{f"loss/{name}": value for name, value in losses.items()}, **measured}
        self._history(run, prefix, values)

    def _on_look(
        self,
        run: wandb.Run,
        fit: str,
        phase: str,
        epoch: int,
        metrics: Mapping[str, Mapping[str, float | None]],
        **_: Any,
    ) -> None:
        """Metrics on the test images while a phase goes on, drawn over its epochs."""
        prefix = f"look/{fit}/{phase}"
        self._draw_over(run, prefix, "epoch")
        found = {f"{category}/{name}": value for category, one in metrics.items() for name, value in one.items()}
        self._history(run, prefix, {"epoch": epoch, **found})

    def _draw_over(self, run: wandb.Run, prefix: str, axis: str) -> None:
        if prefix not in self._defined:
            run.define_metric(f"{prefix}/*", step_metric=f"{prefix}/{axis}")
            self._defined.add(prefix)

    def _on_checkpoint(
        self, run: wandb.Run, fit: str, folder: Path, metadata: Mapping[str, Any] | None = None, **_: Any
    ) -> None:
        if not self._cfg.log_model:
            return
        import wandb

        name = re.sub(r"[^\w.-]", "_", f"{run.config['config_name']}-{fit}", flags=re.ASCII)[-128:]
        artifact = wandb.Artifact(name, "model", metadata=dict(metadata or {}))
        for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            # A checkpoint is written once: sent from where it lies, neither copied nor cached.
            relative = path.relative_to(folder).as_posix()
            artifact.add_file(str(path.resolve()), relative, skip_cache=True, policy="immutable")
        run.log_artifact(artifact, aliases=["latest", f"run-{run.id}"])

    def _on_evaluated(self, run: wandb.Run, category: str, metrics: Mapping[str, float | None], **_: Any) -> None:
        self._history(run, f"test/{category}", metrics)

    def _on_pictures(
        self, run: wandb.Run, category: str, folder: Path, rows: Sequence[Mapping[str, Any]], **_: Any
    ) -> None:
        import wandb

        facts = ("kind", "defect", "name", "score")
        table = wandb.Table(columns=[*PARTS, *facts])
        for row, strip in open_pictures(Path(folder), rows):
            table.add_data(*(wandb.Image(part) for part in cut(strip).values()), *(row[fact] for fact in facts))
        self._history(run, "pictures", {category: table})

    def _on_curves(
        self, run: wandb.Run, category: str, curves: Mapping[str, Mapping[str, Sequence[float]] | None], **_: Any
    ) -> None:
        import wandb

        charts = {}
        for name, curve in curves.items():
            if curve is not None:
                axes = _AXES.get(name, ("x", "y"))
                table = wandb.Table(columns=list(axes), data=list(map(list, zip(curve["x"], curve["y"], strict=True))))
                charts[name] = wandb.plot.line(table, *axes, title=f"{category}: {name}")
        self._history(run, f"curves/{category}", charts)

    def _on_stream(self, run: wandb.Run, results: Mapping[str, Any], **_: Any) -> None:
        """ACC, forgetting and parameters after a task, drawn over tasks; every value of the matrices as a table."""
        task, last = len(results["cl_metrics"]) - 1, results["cl_metrics"][-1]
        self._draw_over(run, "continual", "task")
        found = {f"{name}/{key}": value for name, one in last["by_metric"].items() for key, value in one.items()}
        counts = {name: results[name][-1] for name in ("params_total", "params_trainable", "seconds")}
        self._history(run, "continual", {"task": task, **found, **counts}, commit=False)
        self._send_media(self._stream_tables, run, results)  # into the same row, which goes out without them if it must

    def _stream_tables(self, run: wandb.Run, R: Mapping[str, Sequence[Sequence[float | None]]], **results: Any) -> None:
        import wandb

        tasks = [", ".join(task) for task in results["config"]["tasks"]]
        after = range(len(results["cl_metrics"]))
        rows = [[i, j, name, *(R[key][i][j] for key in R)] for i in after for j, name in enumerate(tasks)]
        tables = {"R": wandb.Table(columns=["after task", "task", "categories", *R], data=rows)}
        if results["expansions"]:
            keys = ("task", "pass", "batch", "min_z")
            events = [[*one["site"], *(one[key] for key in keys), str(one["all_z"])] for one in results["expansions"]]
            tables["expansions"] = wandb.Table(columns=["layer", "kind", *keys, "all_z"], data=events)
        self._history(run, "continual", tables)

    def _on_growth(self, run: wandb.Run, task: int, growth: Mapping[str, Any], **_: Any) -> None:
        """Adapters of each site, and of all, after a task."""
        stats = growth.get("adapter_stats")
        if not stats:
            return
        self._draw_over(run, "growth", "task")
        sites = {f"layer_{one['layer_id']}_{one['kind']}": one["num_adapters"] for one in stats["adapters_per_layer"]}
        self._history(run, "growth", {"task": task, "total_adapters": stats["total_adapters"], **sites})

    def _on_failed(self, run: wandb.Run, category: str, reason: str, **_: Any) -> None:
        run.summary[f"failed/{category}"] = reason

    def _on_finished(
        self, run: wandb.Run, metrics: Mapping[str, float | None], seconds: float | None = None, **_: Any
    ) -> None:
        self._history(run, "test/mean", metrics)
        if seconds is not None:
            run.summary["seconds"] = seconds

    def _on_grid(
        self,
        run: wandb.Run,
        tables: Mapping[str, tuple[Sequence[str], Sequence[Sequence[Any]]]],
        failed: Mapping[str, str],
        **_: Any,
    ) -> None:
        import wandb

        known = {name: wandb.Table(columns=list(columns), data=list(rows)) for name, (columns, rows) in tables.items()}
        self._history(run, "grid", known)
        run.summary.update({f"failed/{cell}": reason for cell, reason in failed.items()})

    def _history(self, run: wandb.Run, prefix: str, values: Mapping[str, Any], commit: bool = True) -> None:
        """A row of the history; the summary takes its values as the last ones. What is None is left out."""
        known = {f"{prefix}/{name}": value for name, value in values.items() if value is not None}
        if known:
            run.log(known, step=self._row, commit=commit)  # or the row is held back until the next


def _mode() -> tuple[str, str]:
    """online, offline or disabled, and why it is not online. Takes ten seconds at most, and never asks."""
    import wandb

    asked = os.environ.get("WANDB_MODE") or wandb.setup().settings.mode  # `wandb offline` leaves it in a file
    if asked == "disabled":
        return "disabled", "WANDB_MODE=disabled"
    if asked in ("offline", "dryrun"):
        return "offline", f"WANDB_MODE={asked}"
    try:
        known = wandb.run is not None or wandb.login(prompt=False, verify=True)
    except Exception as error:
        return "offline", first_line(error)
    return ("online", "") if known else ("offline", "no account is set up: wandb login, or WANDB_API_KEY")


def _name(folder: Path) -> str:
    """Config, protocol, categories and seed."""
    return "/".join(folder.parts[-4:])[-128:]


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _remove_empty(folder: Path) -> None:
    """Take away run files that a kill left without a record: `wandb sync` would stumble over one and send nothing."""
    for path in folder.glob("*run-*/*.wandb"):
        if not path.parent.is_symlink() and path.stat().st_size <= _HEADER_BYTES:
            path.unlink()
