"""TensorBoard: scalars and pictures of a run in `<run folder>/tensorboard/`. Needs the extra `tensorboard`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anoframe.tracking.pictures import open_pictures
from anoframe.tracking.tracker import Status

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Write event files for `tensorboard --logdir runs`; uses no network.

    Args:
        folder: for the event files; created with the first one.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def log(self, event: str, **fields: Any) -> None:
        """Write an event; events without a method `_on_<event>` are ignored."""
        write = getattr(self, f"_on_{event}", None)
        if write is not None:
            write(**fields)

    def close(self, status: Status) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    @property
    def _open(self) -> SummaryWriter:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder))  # a new event file for each start of a run
        return self._writer

    def _on_run(self, config: Mapping[str, Any], disclosed: Mapping[str, Any] | None = None, **_: Any) -> None:
        """The config, with what tells how the results may be compared."""
        tree = {**config, **(disclosed or {})}
        self._open.add_text("config", f"```\n{json.dumps(tree, indent=2, ensure_ascii=False, default=str)}\n```")

    def _on_step(
        self,
        fit: str,
        phase: str,
        step: int,
        losses: Mapping[str, float],
        measurements: Mapping[str, float] | None = None,
        **others: Any,
    ) -> None:
        values = {f"loss/{name}": value for name, value in losses.items()} | others
        values |= {f"measured/{name}": value for name, value in (measurements or {}).items()}
        for name, value in values.items():
            self._open.add_scalar(f"train/{fit}/{phase}/{name}", value, step)

    def _on_look(
        self, fit: str, phase: str, epoch: int, metrics: Mapping[str, Mapping[str, float | None]], **_: Any
    ) -> None:
        for category, values in metrics.items():
            self._scalars(f"look/{fit}/{phase}/{category}", values, epoch)

    def _on_evaluated(
        self,
        category: str,
        metrics: Mapping[str, float | None],
        decisions: Mapping[str, float | None] | None = None,
        **_: Any,
    ) -> None:
        self._scalars(f"test/{category}", {**metrics, **(decisions or {})})

    def _on_pictures(self, category: str, folder: Path, rows: Sequence[Mapping[str, Any]], **_: Any) -> None:
        for index, (row, strip) in enumerate(open_pictures(folder, rows)):
            tag = f"pictures/{category}/{row['kind']}"
            self._open.add_image(tag, np.asarray(strip), index, dataformats="HWC")

    def _on_method_summary(self, task: int | None, scalars: Mapping[str, float], **_: Any) -> None:
        """Scalars of a method under their own names, over the tasks of a stream."""
        for name, value in scalars.items():
            self._open.add_scalar(name, value, task or 0)

    def _on_failed(self, category: str, reason: str, **_: Any) -> None:
        self._open.add_text(f"failed/{category}", reason)

    def _on_finished(
        self, metrics: Mapping[str, float | None], decisions: Mapping[str, float | None] | None = None, **_: Any
    ) -> None:
        self._scalars("test/mean", {**metrics, **(decisions or {})})

    def _scalars(self, prefix: str, metrics: Mapping[str, float | None], step: int = 0) -> None:
        """Write metrics as scalars, without those that are not available."""
        for name, value in metrics.items():
            if value is not None:
                self._open.add_scalar(f"{prefix}/{name}", value, step)
