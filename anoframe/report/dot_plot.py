"""Dot plots: a line per row of a table, with a dot per seed, mean and interval (macro `dot_plot` in macros.html)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from anoframe.evaluation.results import percent
from anoframe.report.charts import nice_ticks, number
from anoframe.report.grid_table import Figure

_AXIS_UNITS = 1000  # width of a chart in SVG units; the page stretches it
_MIN_AXIS_PIXELS = 105  # width of the axis in a narrow window (.dot-plot in report.css)
_CHARACTER_PIXELS = 8  # of a tick label
_LABEL_GAP_PIXELS = 6  # between two tick labels


@dataclass(frozen=True)
class Line:
    """One line of a plot, below the label of its group."""

    group: str
    name: str
    figure: Figure


@dataclass(frozen=True)
class Axis:
    """Horizontal axis, from `low` to `high`."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Position as a share of the width."""
        return (value - self.low) / (self.high - self.low)

    def x(self, value: float) -> str:
        """Position in SVG units."""
        return f"{_AXIS_UNITS * self.share(value):.1f}"


def dot_plot(title: str, lines: Sequence[Line]) -> dict[str, Any] | None:
    """Values of the template; None without lines."""
    if not lines:
        return None
    axis = _fit_axis([line.figure for line in lines])
    groups: list[dict[str, Any]] = []  # neighbouring lines of one group, below its label
    for line in lines:
        if not groups or groups[-1]["label"] != line.group:
            groups.append({"label": line.group, "lines": []})
        groups[-1]["lines"].append(_line(line, axis))
    marks = [{"left": f"{100 * axis.share(tick / 100):.2f}%", "text": number(tick)} for tick in round_ticks(axis)]
    return {"title": title, "groups": groups, "ticks": marks}


def _line(line: Line, axis: Axis) -> dict[str, Any]:
    figure = line.figure
    return {
        "config": line.name,
        "label": f"{line.group}, {line.name}: {figure.text()}" if line.group else f"{line.name}: {figure.text()}",
        "interval": None if figure.interval is None else [axis.x(bound) for bound in figure.interval],
        "dots": [axis.x(value) for value in figure.values.values()],
        "mean": axis.x(figure.mean),
        "text": percent(figure.mean),
    }


def _fit_axis(figures: Sequence[Figure]) -> Axis:
    """Axis over all values and intervals with a margin of 4 %, within [0, 1]."""
    values = [value for figure in figures for value in (*figure.values.values(), *(figure.interval or ()))]
    low, high = min(values), max(values)
    margin = max((high - low) * 0.04, 0.002)
    return Axis(max(low - margin, 0.0), min(high + margin, 1.0))


def round_ticks(axis: Axis) -> list[float]:
    """Round percents along the axis: as many as have room for their labels in a narrow window."""
    low, high = 100 * axis.low, 100 * axis.high
    ticks: list[float] = []
    for count in range(6, 0, -1):
        ticks = nice_ticks(low, high, count)
        if len(ticks) < 2:
            break
        label = max(len(number(tick)) for tick in ticks) * _CHARACTER_PIXELS
        if (ticks[1] - ticks[0]) / (high - low) * _MIN_AXIS_PIXELS >= label + _LABEL_GAP_PIXELS:
            break
    return ticks
