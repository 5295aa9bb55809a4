"""Drawings of the report: inline SVG whose colours are those of the page, so that they follow its light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import ceil, floor, isfinite, log10
from typing import Any

from anoframe.evaluation.results import percent
from anoframe.report.run_record import Category, Scored

# ------------------------------------------------------------------------------------------------ scores

_BINS = 36
_HALF = 84  # pixels from the middle line of the histogram to its edge
_ROW = 22  # pixels of a row of dots


@dataclass(frozen=True)
class _Axis:
    """Scores as places from 0 to 1000; an edge of the bins lies on the threshold, so no bar is half wrong."""

    low: float
    width: float  # of a bin
    bins: int

    @classmethod
    def over(cls, scores: Sequence[float], threshold: float | None) -> _Axis:
        values = [*scores, *([] if threshold is None else [threshold])]
        low, high = min(values), max(values)
        width = (high - low) / _BINS or max(abs(high), 1.0) / _BINS
        start = low if threshold is None else threshold - width * -floor((low - threshold) / width)
        return cls(start, width, floor((high - start) / width) + 1)

    def bin(self, score: float, threshold: float | None) -> int:
        place = min(max(floor((score - self.low) / self.width), 0), self.bins - 1)
        if threshold is not None:  # rounding never moves an image to the other side of its decision
            edge = round((threshold - self.low) / self.width)
            place = max(place, edge) if score >= threshold else min(place, edge - 1)
        return min(max(place, 0), self.bins - 1)

    def at(self, score: float) -> float:
        return 1000 * (score - self.low) / (self.width * self.bins)


def score_chart(category: Category) -> str:
    """Histogram of good (up) and defect (down) images, and below it a row of dots a defect type."""
    images = [image for image in category.images or [] if isfinite(image.score)]
    if not images:
        return ""
    axis = _Axis.over([image.score for image in images], category.limit)
    good, defects = ([i for i in images if i.is_defect is kind] for kind in (False, True))
    tallest = max(max(_histogram(group, axis, category.limit)) for group in (good, defects))
    rows = [_bars(name, group, axis, category.limit, tallest) for name, group in (("good", good), ("defect", defects))]
    kinds = dict.fromkeys(image.defect for image in [*good, *sorted(defects, key=lambda image: image.defect)])
    rows += [_dots(kind, [i for i in images if i.defect == kind], axis, category.limit) for kind in kinds]
    return f'<div class="scores">{"".join(rows)}{_score_ticks(axis, category.limit)}</div>'


def _histogram(images: Sequence[Scored], axis: _Axis, threshold: float | None) -> list[int]:
    counts = [0] * axis.bins
    for image in images:
        counts[axis.bin(image.score, threshold)] += 1
    return counts


def _bars(name: str, images: Sequence[Scored], axis: _Axis, threshold: float | None, tallest: int) -> str:
    up = name == "good"
    edge = None if threshold is None else round((threshold - axis.low) / axis.width)
    step = 1000 / axis.bins
    bars = []
    for place, count in enumerate(_histogram(images, axis, threshold)):
        if not count:
            continue
        height = max(_HALF * 0.92 * count / tallest, 2)
        wrong = edge is not None and (place >= edge) is up
        low = axis.low + place * axis.width
        title = f"{count} {name}, score {number(low)} to {number(low + axis.width)}{', decided wrongly' * wrong}"
        bars.append(
            f'<rect class="{name}{" wrong" * wrong}" x="{place * step + 0.08 * step:.1f}" width="{0.84 * step:.1f}" '
            f'y="{_HALF - height if up else 0:.1f}" height="{height:.1f}"><title>{title}</title></rect>'
        )
    drawing = _plot(f"histogram of the scores of {len(images)} {name} images", _HALF, "".join(bars), axis, threshold)
    label = f'<span class="row-name"><i class="key {name}"></i>{name}<span class="wide"> images</span></span>'
    return f'<div class="score-row half {name}">{label}{drawing}{_tally(images, threshold)}</div>'


def _dots(kind: str, images: Sequence[Scored], axis: _Axis, threshold: float | None) -> str:
    marks: dict[bool, list[str]] = {False: [], True: []}  # whether decided wrongly
    for image in images:
        wrong = image.outcome(threshold) in ("missed", "false alarm")
        marks[wrong].append(f"M{axis.at(image.score):.1f} {_ROW // 2}h0")
    side = "defect" if images[0].is_defect else "good"
    paths = "".join(
        f'<path class="dots {side}{" wrong" * wrong}" d="{"".join(places)}"/>'
        for wrong, places in marks.items()
        if places
    )
    name = escape(kind)
    drawing = _plot(f"scores of the {len(images)} images of {name}", _ROW, paths, axis, threshold)
    label = f'<span class="row-name" title="{name}">{name}</span>'
    return f'<div class="score-row">{label}{drawing}{_tally(images, threshold)}</div>'


def _tally(images: Sequence[Scored], threshold: float | None) -> str:
    wrong = sum(image.outcome(threshold) in ("missed", "false alarm") for image in images)
    text = f"{len(images)}" if threshold is None else f"{wrong} of {len(images)}"
    return f'<span class="tally{" bad" if wrong else ""}">{text}</span>'


def _plot(label: str, height: int, content: str, axis: _Axis, threshold: float | None) -> str:
    line = ""
    if threshold is not None:
        x = axis.at(threshold)
        line = f'<path class="threshold" d="M{x:.1f} 0V{height}"/>'
    return (
        f'<svg viewBox="0 0 1000 {height}" preserveAspectRatio="none" style="height:{height}px" role="img" '
        f'aria-label="{label}">{content}{line}</svg>'
    )


def _score_ticks(axis: _Axis, threshold: float | None) -> str:
    ticks = []
    for value in nice_ticks(axis.low, axis.low + axis.width * axis.bins, 5):
        away = 1000.0 if threshold is None else abs(axis.at(value) - axis.at(threshold))
        if away > 120:  # further off still where the drawing is narrow
            near = "" if away > 230 else ' class="near"'
            ticks.append(f'<span{near} style="left:{axis.at(value) / 10:.2f}%">{number(value)}</span>')
    if threshold is not None:
        ticks.append(
            f'<span class="at-threshold" style="left:{axis.at(threshold) / 10:.2f}%">{number(threshold)}</span>'
        )
    head = "images" if threshold is None else "wrong"
    places = f'<div class="ticks">{"".join(ticks)}</div>'
    return f'<div class="score-row"><span class="row-name">score</span>{places}<span class="tally">{head}</span></div>'


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers from low to high."""
    span = high - low
    if not span > 0:
        return [low]
    power = 10 ** floor(log10(span / count))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if span / (power * factor) <= count)
    first = ceil(low / step - 1e-9)
    ticks = []
    while first * step <= high:
        ticks.append(first * step)
        first += 1
    return ticks


def number(value: float) -> str:
    """
    >>> number(12.3456789), number(0.000123456), number(3.0)
    ('12.35', '0.0001235', '3')
    """
    return f"{value:.4g}"


# ------------------------------------------------------------------------------------------------ curves

_LEFT, _TOP, _SIDE = 34, 8, 240


@dataclass(frozen=True)
class Line:
    """One curve of a drawing."""

    label: str
    style: str  # of the page: image or pixel
    curve: Mapping[str, Any] | None
    value: str  # the area under it, as it is shown


def curve_chart(
    title: str,
    axes: tuple[str, str],
    lines: Sequence[Line],
    limit: float = 1.0,
    diagonal: bool = False,
    point: tuple[float, float] | None = None,
) -> str:
    """Lines in the unit square, with what they are worth below; x ends at `limit`. `point` is the stored threshold."""
    drawn = [line for line in lines if line.curve]
    if not drawn:
        return ""
    grid = "".join(_gridline(share / 4, limit) for share in range(5))
    paths = "".join(f'<path class="line {line.style}" d="{_path(line.curve or {}, limit)}"/>' for line in drawn)
    chance = f'<path class="chance" d="M{_x(0):.0f} {_y(0):.0f}L{_x(1):.0f} {_y(1):.0f}"/>' if diagonal else ""
    dot = ""
    if point is not None:
        said = f"{axes[0]} {100 * point[0]:.1f} %, {axes[1]} {100 * point[1]:.1f} %"
        place = f'cx="{_x(point[0] / limit):.1f}" cy="{_y(point[1]):.1f}"'
        dot = f'<circle class="operating" {place} r="4.5"><title>at the threshold: {said}</title></circle>'
    names = (
        f'<text x="{_x(0.5):.0f}" y="{_y(0) + 34:.0f}" text-anchor="middle">{axes[0]}</text>'
        f'<text transform="translate(10 {_y(0.5):.0f})rotate(-90)" text-anchor="middle">{axes[1]}</text>'
    )
    values = ", ".join(f"{line.label} {line.value}" for line in drawn)
    keys = "".join(
        _key("", "0 0 24 8", f'<path class="line {line.style}" d="M1 4H23"/>', f"{line.label} <b>{line.value}</b>")
        for line in drawn
    )
    if dot:
        keys += _key(" dot", "0 0 12 12", '<circle class="operating" cx="6" cy="6" r="4.5"/>', "at the threshold")
    size = f"0 0 {_LEFT + 12 + _SIDE + 10} {_TOP + _SIDE + 42}"
    return (
        f'<figure class="curve"><figcaption>{title}</figcaption>'
        f'<svg viewBox="{size}" role="img" aria-label="{title}: {values}">{grid}{names}{chance}{paths}{dot}</svg>'
        f'<ul class="keys">{keys}</ul></figure>'
    )


def _key(kind: str, box: str, drawing: str, text: str) -> str:
    return f'<li><svg class="swatch{kind}" viewBox="{box}" aria-hidden="true">{drawing}</svg>{text}</li>'


def _x(share: float) -> float:
    return _LEFT + 12 + _SIDE * share


def _y(share: float) -> float:
    return _TOP + _SIDE * (1 - share)


def _gridline(share: float, limit: float) -> str:
    x, y = _x(share), _y(share)
    return (
        f'<path class="grid" d="M{x:.0f} {_y(0):.0f}V{_y(1):.0f}M{_x(0):.0f} {y:.0f}H{_x(1):.0f}"/>'
        f'<text x="{x:.0f}" y="{_y(0) + 16:.0f}" text-anchor="middle">{share * limit:.3g}</text>'
        f'<text x="{_x(0) - 6:.0f}" y="{y + 4:.0f}" text-anchor="end">{share:.3g}</text>'
    )


def _path(curve: Mapping[str, Any], limit: float) -> str:
    points = [(float(x), float(y)) for x, y in zip(curve["x"], curve["y"], strict=True)]
    inside = [point for point in points if point[0] <= limit]
    beyond = points[len(inside) :]
    if inside and beyond:  # straight on to the limit
        (x, y), (right, top) = inside[-1], beyond[0]
        inside.append((limit, y + (top - y) * (limit - x) / (right - x)))
    return "M" + "L".join(f"{_x(x / limit):.1f} {_y(y):.1f}" for x, y in inside)


# ------------------------------------------------------------------------------------------------ training

_TALL = 170  # pixels from the lowest to the highest value
_STYLES = 6  # of lines, in the page; more of them begin again
_MOST_TIPS = 200  # places of a drawing that say their values when pointed at
_MOST_DOTS = 30  # points of a line that are marked
_LOG_SPAN = 100  # highest over lowest value from which on values are drawn as their logarithms


@dataclass(frozen=True)
class Series:
    """A value over epochs, or over tasks; `points` are (epoch, value), the epochs rising."""

    label: str
    points: Sequence[tuple[int, float]]


@dataclass(frozen=True)
class _Values:
    """The upright axis of values over epochs."""

    low: float
    high: float
    logarithmic: bool

    @classmethod
    def over(cls, values: Sequence[float], ceiling: float | None, from_zero: bool = False) -> _Values:
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
        place = log10(value) if self.logarithmic else value
        return _TOP + _TALL * (1 - (place - self.low) / (self.high - self.low))

    def ticks(self) -> list[float]:
        if not self.logarithmic:
            return nice_ticks(self.low, self.high, 5)
        powers = range(ceil(self.low), floor(self.high) + 1)
        return [10.0**power for power in powers[:: ceil(len(powers) / 5)]]


def epoch_chart(
    title: str,
    series: Sequence[Series],
    shares: bool = False,
    notes: Mapping[int, str] | None = None,
    over: str = "epoch",
    from_zero: bool = False,
) -> str:
    """Values over epochs, with the last of each below; of two decades and more, their logarithms.

    Args:
        series: those without a point are left out.
        shares: values lie in [0, 1] and are shown as percent.
        notes: epoch -> what else is said of it when it is pointed at.
        over: what is counted along the axis, where it is not epochs.
        from_zero: begin at 0 and take no logarithms, so that heights can be compared.
    """
    drawn = [(place % _STYLES, one) for place, one in enumerate(series) if one.points]
    if not drawn:
        return ""
    said = percent if shares else number
    epochs = sorted({epoch for _, one in drawn for epoch, _ in one.points})
    values = _Values.over([value for _, one in drawn for _, value in one.points], 1.0 if shares else None, from_zero)
    across = _Across(epochs[0], epochs[-1])
    grid = "".join(_level(values.at(tick), f"{100 * tick:.4g}" if shares else number(tick)) for tick in values.ticks())
    grid += "".join(_upright(across.at(tick), tick) for tick in across.ticks())
    lines = "".join(_series(style, one, across, values) for style, one in drawn)
    last = ", ".join(f"{one.label} {said(one.points[-1][1])}" for _, one in drawn)
    facts = {one.label: {e: said(v) for e, v in one.points} for _, one in drawn}
    tips = _tips(over, epochs, across, facts, notes or {})
    scale = "percent" if shares else "logarithmic scale" if values.logarithmic else ""
    head = f"{escape(title)}{f' <small>{scale}</small>' if scale else ''}"
    keys = "".join(
        _key(
            "",
            "0 0 24 8",
            f'<path class="line s{style}" d="M1 4H23"/>',
            f"{escape(one.label)} <b>{said(one.points[-1][1])}</b>",
        )
        for style, one in drawn
    )
    bottom = f'<text x="{_x(0.5):.0f}" y="{_TOP + _TALL + 34}" text-anchor="middle">{over}</text>'
    label = escape(f"{title} over {over}s {epochs[0]} to {epochs[-1]}, at the end: {last}")
    return (
        f'<figure class="curve"><figcaption>{head}</figcaption>'
        f'<svg viewBox="0 0 {_LEFT + 12 + _SIDE + 10} {_TOP + _TALL + 40}" role="img" aria-label="{label}">'
        f'{grid}{bottom}{lines}{tips}</svg><ul class="keys">{keys}</ul></figure>'
    )


@dataclass(frozen=True)
class _Across:
    """The axis of epochs."""

    first: int
    last: int

    def at(self, epoch: int) -> float:
        return _x((epoch - self.first) / (self.last - self.first) if self.last > self.first else 0.5)

    def ticks(self) -> list[int]:
        found = nice_ticks(self.first, self.last, 5)
        return [round(tick) for tick in found if abs(tick - round(tick)) < 1e-6]


def _series(style: int, one: Series, across: _Across, values: _Values) -> str:
    places = [f"{across.at(epoch):.1f} {values.at(value):.1f}" for epoch, value in one.points]
    dots = ""
    if len(places) <= _MOST_DOTS:
        dots = f'<path class="marks s{style}" d="{"".join(f"M{place}h0" for place in places)}"/>'
    return f'<path class="line s{style}" d="M{"L".join(places)}"/>{dots}'


def _tips(
    over: str, epochs: Sequence[int], across: _Across, said: Mapping[str, Mapping[int, str]], notes: Mapping[int, str]
) -> str:
    """Unseen columns that say the values of their epoch."""
    kept = epochs[:: ceil(len(epochs) / _MOST_TIPS)]
    edges = [(across.at(a) + across.at(b)) / 2 for a, b in pairwise(kept)]
    columns = zip(kept, [_x(0), *edges], [*edges, _x(1)], strict=True)
    return "".join(
        _tip(f"{over} {epoch}", left, right, _facts(epoch, said, notes.get(epoch))) for epoch, left, right in columns
    )


def _facts(epoch: int, said: Mapping[str, Mapping[int, str]], note: str | None) -> list[str]:
    return [f"{label} {values[epoch]}" for label, values in said.items() if epoch in values] + ([note] if note else [])


def _tip(place: str, left: float, right: float, facts: Sequence[str]) -> str:
    text = escape(f"{place}: {', '.join(facts)}")
    box = f'x="{left:.1f}" width="{right - left:.1f}" y="{_TOP}" height="{_TALL}"'
    return f'<rect class="tip" {box}><title>{text}</title></rect>'


def _level(y: float, text: str) -> str:
    return (
        f'<path class="grid" d="M{_x(0):.0f} {y:.1f}H{_x(1):.0f}"/>'
        f'<text x="{_x(0) - 6:.0f}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    )


def _upright(x: float, epoch: int) -> str:
    return (
        f'<path class="grid" d="M{x:.1f} {_TOP}V{_TOP + _TALL}"/>'
        f'<text x="{x:.1f}" y="{_TOP + _TALL + 16}" text-anchor="middle">{epoch}</text>'
    )
