"""Chart of the image scores of a category: a histogram, and one row of dots per defect type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, isfinite

from markupsafe import Markup, escape

from anoframe.report.category_record import WRONG, Category, Scored
from anoframe.report.charts.axes import nice_ticks, number

_BINS = 36
_HALF_HEIGHT = 84  # pixels from the middle line of the histogram to its edge
_ROW_HEIGHT = 22  # pixels of a row of dots
_WIDTH = 1000  # of the view box; the browser stretches it to the width of the page
# Distances in the view box between a tick and the threshold: closer ticks are left out, on narrow screens or always
_MIN_DISTANCE, _MIN_DISTANCE_NARROW = 120, 230


@dataclass(frozen=True)
class _Axis:
    """Horizontal axis of the scores. A bin edge lies on the threshold, so no bar is partly wrong.

    Attributes:
        low: score at the left end.
        bin_width: width of a bin, in scores.
        bins: number of bins.
        threshold: image score from which on an image is a defect; None if there is none.
    """

    low: float
    bin_width: float
    bins: int
    threshold: float | None

    @classmethod
    def over(cls, scores: Sequence[float], threshold: float | None) -> _Axis:
        """Make the axis that covers all scores and the threshold."""
        values = [*scores, *([] if threshold is None else [threshold])]
        low, high = min(values), max(values)
        width = (high - low) / _BINS or max(abs(high), 1.0) / _BINS
        start = low if threshold is None else threshold - width * -floor((low - threshold) / width)
        return cls(start, width, floor((high - start) / width) + 1, threshold)

    @property
    def high(self) -> float:
        """Score at the right end."""
        return self.low + self.bin_width * self.bins

    @property
    def threshold_edge(self) -> int | None:
        """Index of the first bin at or above the threshold."""
        return None if self.threshold is None else round((self.threshold - self.low) / self.bin_width)

    def bin(self, score: float) -> int:
        """Index of the bin of a score."""
        index = min(max(floor((score - self.low) / self.bin_width), 0), self.bins - 1)
        edge = self.threshold_edge
        if self.threshold is not None and edge is not None:  # rounding must not move an image across the threshold
            index = max(index, edge) if score >= self.threshold else min(index, edge - 1)
        return min(max(index, 0), self.bins - 1)

    def at(self, score: float) -> float:
        """Position of a score in the view box."""
        return _WIDTH * (score - self.low) / (self.bin_width * self.bins)


def score_range(scores: Sequence[float], threshold: float | None) -> tuple[float, float]:
    """Scores at the left and the right end of the chart of these scores."""
    axis = _Axis.over(scores, threshold)
    return axis.low, axis.high


def score_chart(category: Category) -> Markup:
    """Draw the histogram of good (up) and defect (down) images, then one row of dots per defect type.

    Returns an empty string if the category has no finite scores.
    """
    images = [image for image in category.images or [] if isfinite(image.score)]
    if not images:
        return Markup("")
    axis = _Axis.over([image.score for image in images], category.image_threshold)
    good, defects = ([i for i in images if i.is_defect is is_defect] for is_defect in (False, True))
    highest = max(max(_histogram(group, axis)) for group in (good, defects))
    rows = [_bars(name, group, axis, highest) for name, group in (("good", good), ("defect", defects))]
    types = dict.fromkeys(image.defect for image in [*good, *sorted(defects, key=lambda image: image.defect)])
    rows += [_dots(name, [image for image in images if image.defect == name], axis) for name in types]
    return Markup(f'<div class="scores" data-bins="{axis.bins}">{"".join(rows)}{_score_ticks(axis)}</div>')


def _histogram(images: Sequence[Scored], axis: _Axis) -> list[int]:
    counts = [0] * axis.bins
    for image in images:
        counts[axis.bin(image.score)] += 1
    return counts


def _bars(name: str, images: Sequence[Scored], axis: _Axis, highest: int) -> str:
    """Half of the histogram; the highest bar of both halves has `highest` images."""
    upwards = name == "good"
    step = _WIDTH / axis.bins
    bars = []
    for index, count in enumerate(_histogram(images, axis)):
        if not count:
            continue
        height = max(_HALF_HEIGHT * 0.92 * count / highest, 2)
        wrong = axis.threshold_edge is not None and (index >= axis.threshold_edge) is upwards
        low = axis.low + index * axis.bin_width
        title = f"{count} {name}, score {number(low)} to {number(low + axis.bin_width)}{', wrong decision' * wrong}"
        bars.append(
            f'<rect class="{name}{" wrong" * wrong}" x="{index * step + 0.08 * step:.1f}" width="{0.84 * step:.1f}" '
            f'y="{_HALF_HEIGHT - height if upwards else 0:.1f}" height="{height:.1f}"><title>{title}</title></rect>'
        )
    plot = _plot(f"histogram of the scores of {len(images)} {name} images", _HALF_HEIGHT, "".join(bars), axis)
    label = f'<span class="row-name"><i class="key {name}"></i>{name}<span class="wide"> images</span></span>'
    return f'<div class="score-row half {name}">{label}{plot}{_count(images, axis.threshold)}</div>'


def _dots(defect: str, images: Sequence[Scored], axis: _Axis) -> str:
    """The row of a defect type, with one dot per image."""
    dots: dict[bool, list[str]] = {False: [], True: []}  # whether the decision is wrong -> path segments
    for image in images:
        wrong = image.outcome(axis.threshold) in WRONG
        dots[wrong].append(f"M{axis.at(image.score):.1f} {_ROW_HEIGHT // 2}h0")
    side = "defect" if images[0].is_defect else "good"
    paths = "".join(
        f'<path class="dots {side}{" wrong" * wrong}" d="{"".join(segments)}"/>'
        for wrong, segments in dots.items()
        if segments
    )
    name = escape(defect)
    plot = _plot(f"scores of the {len(images)} images of {name}", _ROW_HEIGHT, paths, axis)
    label = f'<span class="row-name" title="{name}">{name}</span>'
    return f'<div class="score-row" data-defect="{name}">{label}{plot}{_count(images, axis.threshold)}</div>'


def _count(images: Sequence[Scored], threshold: float | None) -> str:
    """Number of images at the end of a row; with a threshold, how many of them are decided wrongly."""
    wrong = sum(image.outcome(threshold) in WRONG for image in images)
    text = f"{len(images)}" if threshold is None else f"{wrong} of {len(images)}"
    return f'<span class="tally{" bad" if wrong else ""}">{text}</span>'


def _plot(label: str, height: int, content: str, axis: _Axis) -> str:
    """An SVG over the whole axis, with the threshold as an upright line; `label` is HTML."""
    line = ""
    if axis.threshold is not None:
        line = f'<path class="threshold" d="M{axis.at(axis.threshold):.1f} 0V{height}"/>'
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" preserveAspectRatio="none" style="height:{height}px" role="img" '
        f'aria-label="{label}">{content}{line}</svg>'
    )


def _score_ticks(axis: _Axis) -> str:
    threshold, ticks = axis.threshold, []
    for value in nice_ticks(axis.low, axis.high, 5):
        distance = _WIDTH if threshold is None else abs(axis.at(value) - axis.at(threshold))
        if distance > _MIN_DISTANCE:
            near = "" if distance > _MIN_DISTANCE_NARROW else ' class="near"'
            ticks.append(f'<span{near} style="left:{axis.at(value) / 10:.2f}%">{number(value)}</span>')
    if threshold is not None:
        ticks.append(
            f'<span class="at-threshold" style="left:{axis.at(threshold) / 10:.2f}%">{number(threshold)}</span>'
        )
    head = "images" if threshold is None else "wrong"
    row = f'<div class="ticks">{"".join(ticks)}</div>'
    return f'<div class="score-row"><span class="row-name">score</span>{row}<span class="tally">{head}</span></div>'
