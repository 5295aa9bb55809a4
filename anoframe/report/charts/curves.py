"""Chart of curves in the unit square: ROC, precision and recall, per-region overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from anoframe.report.charts.axes import DOT_SWATCH, LEFT, RIGHT_MARGIN, TOP, WIDTH, legend_entry, x_at


@dataclass(frozen=True)
class Line:
    """One curve of a chart.

    Attributes:
        label: name of the metric.
        style: CSS class, `image` or `pixel`.
        curve: `{"x": [...], "y": [...]}`, x rising, or None if it is not available.
        value: the area under the curve, as text.
    """

    label: str
    style: str
    curve: Mapping[str, Any] | None
    value: str


def curve_chart(
    title: str,
    axes: tuple[str, str],
    lines: Sequence[Line],
    limit: float = 1.0,
    diagonal: bool = False,
    point: tuple[float, float] | None = None,
) -> Markup:
    """Draw curves in the unit square, with a legend below.

    Args:
        title: plain text.
        axes: names of the x and the y axis, plain text.
        lines: curves; those that are not available are left out.
        limit: right end of the x axis.
        diagonal: draw the line of chance.
        point: x and y at the stored threshold.

    Returns:
        A figure; an empty string if no curve is available.
    """
    drawn = [line for line in lines if line.curve]
    if not drawn:
        return Markup("")
    grid = "".join(_gridlines(share / 4, limit) for share in range(5))
    paths = "".join(f'<path class="line {line.style}" d="{_path(line.curve or {}, limit)}"/>' for line in drawn)
    chance = f'<path class="chance" d="M{x_at(0):.0f} {_y(0):.0f}L{x_at(1):.0f} {_y(1):.0f}"/>' if diagonal else ""
    names = (
        f'<text x="{x_at(0.5):.0f}" y="{_y(0) + 34:.0f}" text-anchor="middle">{escape(axes[0])}</text>'
        f'<text transform="translate(10 {_y(0.5):.0f})rotate(-90)" text-anchor="middle">{escape(axes[1])}</text>'
    )
    values = ", ".join(f"{line.label} {line.value}" for line in drawn)
    size = f"0 0 {LEFT + WIDTH + RIGHT_MARGIN} {TOP + WIDTH + 42}"
    return Markup(
        f'<figure class="curve"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="{size}" role="img" aria-label="{escape(f"{title}: {values}")}">'
        f"{grid}{names}{chance}{paths}{_operating_point(point, axes, limit)}</svg>"
        f'<ul class="keys">{_legend(drawn, point is not None)}</ul></figure>'
    )


def _operating_point(point: tuple[float, float] | None, axes: tuple[str, str], limit: float) -> str:
    """The ring at the stored threshold."""
    if point is None:
        return ""
    values = escape(f"{axes[0]} {100 * point[0]:.1f} %, {axes[1]} {100 * point[1]:.1f} %")
    position = f'cx="{x_at(point[0] / limit):.1f}" cy="{_y(point[1]):.1f}"'
    return f'<circle class="operating" {position} r="4.5"><title>at the threshold: {values}</title></circle>'


def _legend(lines: Sequence[Line], has_point: bool) -> str:
    entries = [
        legend_entry(f'<path class="line {line.style}" d="M1 4H23"/>', f"{escape(line.label)} <b>{line.value}</b>")
        for line in lines
    ]
    if has_point:
        entries.append(
            legend_entry('<circle class="operating" cx="6" cy="6" r="4.5"/>', "at the threshold", DOT_SWATCH)
        )
    return "".join(entries)


def _y(share: float) -> float:
    return TOP + WIDTH * (1 - share)


def _gridlines(share: float, limit: float) -> str:
    """One upright and one level line with their numbers."""
    x, y = x_at(share), _y(share)
    return (
        f'<path class="grid" d="M{x:.0f} {_y(0):.0f}V{_y(1):.0f}M{x_at(0):.0f} {y:.0f}H{x_at(1):.0f}"/>'
        f'<text x="{x:.0f}" y="{_y(0) + 16:.0f}" text-anchor="middle">{share * limit:.3g}</text>'
        f'<text x="{x_at(0) - 6:.0f}" y="{y + 4:.0f}" text-anchor="end">{share:.3g}</text>'
    )


def _path(curve: Mapping[str, Any], limit: float) -> str:
    points = [(float(x), float(y)) for x, y in zip(curve["x"], curve["y"], strict=True)]
    inside = [point for point in points if point[0] <= limit]
    beyond = points[len(inside) :]
    if inside and beyond:  # interpolate linearly up to the limit
        (x, y), (next_x, next_y) = inside[-1], beyond[0]
        inside.append((limit, y + (next_y - y) * (limit - x) / (next_x - x)))
    return "M" + "L".join(f"{x_at(x / limit):.1f} {_y(y):.1f}" for x, y in inside)
