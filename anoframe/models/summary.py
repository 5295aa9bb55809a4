"""Report of a method about its learned state: named tables, series and scalars.

The run, the report and the trackers show everything in it, and know nothing else about a method. This module does not
import torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Table:
    """A table for the report and the trackers.

    Attributes:
        name: key of the table, for example `"expansions"`; W&B logs it under this name.
        title: heading in the report.
        columns: column headings.
        rows: entries, each with one value per column: text, a number, or None for "not available".
        note: text below the heading.
        shaded: whether numeric cells are shaded by their value.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | int | None]]
    note: str = ""
    shaded: bool = False


@dataclass(frozen=True)
class Series:
    """A line in a chart of the report.

    Attributes:
        name: label of the line.
        points: (x, y) pairs with ascending x.
        x_label: label of the x axis.
    """

    name: str
    points: Sequence[tuple[float, float]]
    x_label: str = "task"


@dataclass(frozen=True)
class MethodSummary:
    """Everything a detector reports about its learned state.

    Attributes:
        scalars: name -> number. On a stream of tasks the report draws each over the tasks; W&B logs each under its name
            (`"growth/total_adapters"` is the scalar `total_adapters` of the group `growth`).
        tables: those at the end of training; on a stream, those after the latest task.
        series: lines, drawn in one chart per `x_label`.
        message: one line for the console; empty for none.
        config_records: entries added to the `config` section of `results/continual.json`.
        task_records: entries of `results/continual.json` that are lists with one element per task; this is the element
            of the current task.
        stream_records: entries of `results/continual.json` that hold the latest value.
    """

    scalars: Mapping[str, float] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    series: Sequence[Series] = ()
    message: str = ""
    config_records: Mapping[str, Any] = field(default_factory=dict)
    task_records: Mapping[str, Any] = field(default_factory=dict)
    stream_records: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON types."""
        return asdict(self)
