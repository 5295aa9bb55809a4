"""Weights & Biases tracker: the events of a run as a W&B run of the same id, online or offline."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anoframe.config import ConfigDict
from anoframe.tracking.tracker import Status, first_line
from anoframe.tracking.wandb_events import MEDIA_EVENTS, EventWriter
from anoframe.tracking.wandb_start import open_run, remove_empty_files, run_mode, sync_command

if TYPE_CHECKING:
    import wandb

_EXIT_CODES: dict[Status, int] = {"finished": 0, "failed": 1, "interrupted": 255}  # 255: W&B shows "killed"


class WandB:
    """Send events to Weights & Biases, or keep them in `<run folder>/wandb/` for a later upload.

    Nothing is asked on the terminal. Without credentials, with credentials that the service rejects, or if the service
    does not answer within seconds, the run is kept offline, and one warning gives the command that uploads it.

    Args:
        cfg: section `wandb` of a config.
        folder: run folder.
        report: `log` of the trackers that the user reads, for messages of this tracker.
    """

    def __init__(self, cfg: ConfigDict, folder: Path, report: Callable[..., None]):
        self._cfg = cfg
        self._folder = folder.resolve()
        self._report = report
        self._run: wandb.Run | None = None
        self._writer: EventWriter | None = None
        self._media_failed = False
        self._has_set_data_folder = False

    def log(self, event: str, **fields: Any) -> None:
        """Send an event; the first must be `run`."""
        if event == "run":
            self._start(**fields)
        elif self._writer is not None:
            self._writer.row += 1
            write = getattr(self._writer, f"on_{event}", None)
            if write is None:
                return
            if event in MEDIA_EVENTS:
                self._send_media(write, **fields)
            else:
                write(**fields)

    def close(self, status: Status) -> None:
        """End the W&B run; waits up to five minutes for uploads."""
        run, self._run, self._writer = self._run, None, None
        try:
            if run is not None:
                run.summary["status"] = status
                run.finish(exit_code=_EXIT_CODES[status])
        except TimeoutError:
            command = sync_command(self._folder, "--include-online")
            self._report("warning", text=f"not all data was sent to Weights & Biases. To send the rest: {command}")
        finally:
            if self._has_set_data_folder:
                os.environ.pop("WANDB_DATA_DIR", None)
                self._has_set_data_folder = False

    def _start(
        self,
        id: str,
        config: Mapping[str, Any],
        resumed: bool = False,
        disclosed: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Start a W&B run; `disclosed` tells how its results may be compared, and is in config, summary and tags."""
        mode, reason = run_mode()
        if mode == "disabled":
            self._report("warning", text=f"{reason}: Weights & Biases gets nothing from this run")
            return
        # W&B stages tables and artifacts in this folder until they are sent, and `wandb sync` reads them from there.
        self._has_set_data_folder = "WANDB_DATA_DIR" not in os.environ
        os.environ.setdefault("WANDB_DATA_DIR", str(self._folder / "wandb"))
        remove_empty_files(self._folder / "wandb")
        about = dict(disclosed or {})
        self._run, reason = open_run(self._cfg, self._folder, mode, reason, id, config, about)
        self._run.summary.update(about)
        # Rows of the history are numbered by the lines of the log, which a resumed run continues: W&B drops rows whose
        # number is not above the last one, and offline it does not know the last number of the earlier start.
        row = _count_lines(self._folder / "log.jsonl")
        self._writer = EventWriter(self._run, self._cfg, row, self._send_media)
        if self._run.settings.mode == "offline":
            text = f"Weights & Biases is offline ({reason}). To send this run later: {sync_command(self._folder)}"
            self._report("warning", text=text)
        else:
            self._report("tracking", text=f"Weights & Biases: {self._run.url}")

    def _send_media(self, write: Callable[..., None], **fields: Any) -> None:
        """Send tables, charts or artifacts; after the first failure no more are sent, but metrics still are.

        W&B asks the service about these and waits, so they can fail while plain numbers are queued.
        """
        if self._media_failed:
            return
        try:
            write(**fields)
        except Exception as error:
            self._media_failed = True
            text = f"Weights & Biases gets no more pictures, curves and checkpoints of this run: {first_line(error)}"
            self._report("warning", text=f"{text}. Metrics are still sent, and the run folder has everything")


def _count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
