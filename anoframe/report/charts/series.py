"""Line chart of values over epochs, tasks or another count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10

from markupsafe import Markup, escape

from anoframe.evaluation.results import percent
from anoframe.report.charts.axes import LEFT, RIGHT_MARGIN, TOP, WIDTH, legend_entry, nice_ticks, number, x_at

_HEIGHT = 170  # pixels of the plot area
_STYLES = 6  # line styles in the CSS; further lines repeat them
_MAX_TOOLTIPS = 200
_MAX_MARKERS = 30  # points of a line above which they are not marked
_LOG_SPAN = 100  # ratio of the highest to the lowest value above which the scale is logarithmic


@dataclass(frozen=True)
class Series:
    """One line of a chart; `points` are (x, value) with x rising."""

    label: str
    points: Sequence[tuple[float, float]]


def series_chart(
    title: str,
    series: Sequence[Series],
    shares: bool = False,
    notes: Mapping[float, str] | None = None,
    x_label: str = "epoch",
    from_zero: bool = False,
) -> Markup:
    """Draw values over epochs, with the last value of each line in the legend.

    Values that span more than two decades are drawn on a logarithmic scale.

    Args:
        title: plain text.
        series: lines; those without points are left out.
        shares: values lie in [0, 1] and are shown as percent.
        notes: x -> further text of its tooltip.
        x_label: the quantity that x counts, in the singular.
        from_zero: begin at 0 with a linear scale, so that heights can be compared.

    Returns:
        A figure; an empty string if no line has points.
    """
    drawn = [(index % _STYLES, line) for index, line in enumerate(series) if line.points]
    if not drawn:
        return Markup("")
    text_of = percent if shares else number
    xs = sorted({x for _, line in drawn for x, _ in line.points})
    values = [value for _, line in drawn for _, value in line.points]
    x_axis, y_axis = _XAxis(xs[0], xs[-1]), _YAxis.over(values, 1.0 if shares else None, from_zero)
    grid = "".join(_level_line(y_axis.at(v), f"{100 * v:.4g}" if shares else number(v)) for v in y_axis.ticks())
    grid += "".join(_upright_line(x_axis.at(tick), tick) for tick in x_axis.ticks())
    paths = "".join(_line(style, line, x_axis, y_axis) for style, line in drawn)
    texts = {line.label: {x: text_of(value) for x, value in line.points} for _, line in drawn}
    tooltips = _tooltips(x_label, xs, x_axis, texts, notes or {})
    last = [(style, line.label, text_of(line.points[-1][1])) for style, line in drawn]
    at_end = ", ".join(f"{label} {value}" for _, label, value in last)
    description = f"{title} over {x_label}s {_x_text(xs[0])} to {_x_text(xs[-1])}, at the end: {at_end}"
    scale = "percent" if shares else "logarithmic scale" if y_axis.logarithmic else ""
    caption = f"{escape(title)}{f' <small>{scale}</small>' if scale else ''}"
    name = f'<text x="{x_at(0.5):.0f}" y="{TOP + _HEIGHT + 34}" text-anchor="middle">{escape(x_label)}</text>'
    legend = "".join(
        legend_entry(f'<path class="line s{style}" d="M1 4H23"/>', f"{escape(label)} <b>{value}</b>")
        for style, label, value in last
    )
    return Markup(
        f'<figure class="curve"><figcaption>{caption}</figcaption>'
        f'<svg viewBox="0 0 {LEFT + WIDTH + RIGHT_MARGIN} {TOP + _HEIGHT + 40}" role="img" '
        f'aria-label="{escape(description)}">{grid}{name}{paths}{tooltips}</svg><ul class="keys">{legend}</ul></figure>'
    )


# ------------------------------------------------------------------------------------------------ axes


@dataclass(frozen=True)
class _XAxis:
    """Horizontal axis from the first to the last x."""

    first: float
    last: float

    def at(self, x: float) -> float:
        return x_at((x - self.first) / (self.last - self.first) if self.last > self.first else 0.5)

    def ticks(self) -> list[int]:
        """Whole numbers only: x is a count."""
        return [round(tick) for tick in nice_ticks(self.first, self.last, 5) if abs(tick - round(tick)) < 1e-6]


@dataclass(frozen=True)
class _YAxis:
    """Vertical axis; `low` and `high` are logarithms on a logarithmic scale."""

    low: float
    high: float
    logarithmic: bool

    @classmethod
    def over(cls, values: Sequence[float], ceiling: float | None, from_zero: bool) -> _YAxis:
        """Make the axis of these values, with a margin.

        Args:
            ceiling: upper end that is never exceeded; with one, the scale is linear.
            from_zero: begin at 0, unless a value is negative.
        """
        low, high = min(values), max(values)
        if from_zero and low >= 0:
            return cls(0.0, 1.06 * high or 1.0, False)
        if ceiling is None and low > 0 and high > _LOG_SPAN * low:
            margin = 0.05 * (log10(high) - log10(low))
            return cls(log10(low) - margin, log10(high) + margin, True)
        margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        top = high + margin if ceiling is None else min(high + margin, ceiling)
        return cls(low - margin if low < 0 or low > margin else 0.0, top, False)

    def at(self, value: float) -> float:
        scaled = log10(value) if self.logarithmic else value
        return TOP + _HEIGHT * (1 - (scaled - self.low) / (self.high - self.low))

    def ticks(self) -> list[float]:
        if not self.logarithmic:
            return nice_ticks(self.low, self.high, 5)
        powers = range(ceil(self.low), floor(self.high) + 1)
        return [10.0**power for power in powers[:: ceil(len(powers) / 5)]]


# ------------------------------------------------------------------------------------------------ parts


def _line(style: int, line: Series, x_axis: _XAxis, y_axis: _YAxis) -> str:
    positions = [f"{x_axis.at(x):.1f} {y_axis.at(value):.1f}" for x, value in line.points]
    markers = ""
    if len(positions) <= _MAX_MARKERS:
        markers = f'<path class="marks s{style}" d="{"".join(f"M{position}h0" for position in positions)}"/>'
    return f'<path class="line s{style}" d="M{"L".join(positions)}"/>{markers}'


def _tooltips(
    x_label: str,
    xs: Sequence[float],
    x_axis: _XAxis,
    texts: Mapping[str, Mapping[float, str]],
    notes: Mapping[float, str],
) -> str:
    """Invisible columns whose tooltips have the values at their x."""
    kept = xs[:: ceil(len(xs) / _MAX_TOOLTIPS)]
    edges = [(x_axis.at(a) + x_axis.at(b)) / 2 for a, b in pairwise(kept)]
    columns = zip(kept, [x_at(0), *edges], [*edges, x_at(1)], strict=True)
    return "".join(
        _tooltip(f"{x_label} {_x_text(x)}", left, right, _facts(x, texts, notes.get(x))) for x, left, right in columns
    )


def _facts(x: float, texts: Mapping[str, Mapping[float, str]], note: str | None) -> list[str]:
    return [f"{label} {values[x]}" for label, values in texts.items() if x in values] + ([note] if note else [])


def _tooltip(head: str, left: float, right: float, facts: Sequence[str]) -> str:
    text = escape(f"{head}: {', '.join(facts)}")
    box = f'x="{left:.1f}" width="{right - left:.1f}" y="{TOP}" height="{_HEIGHT}"'
    return f'<rect class="tip" {box}><title>{text}</title></rect>'


def _level_line(y: float, text: str) -> str:
    return (
        f'<path class="grid" d="M{x_at(0):.0f} {y:.1f}H{x_at(1):.0f}"/>'
        f'<text x="{x_at(0) - 6:.0f}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    )


def _upright_line(x: float, tick: int) -> str:
    return (
        f'<path class="grid" d="M{x:.1f} {TOP}V{TOP + _HEIGHT}"/>'
        f'<text x="{x:.1f}" y="{TOP + _HEIGHT + 16}" text-anchor="middle">{tick}</text>'
    )


def _x_text(x: float) -> str:
    """x as text: a whole number without a decimal point, others with four significant digits."""
    return str(int(x)) if x == int(x) else number(x)
