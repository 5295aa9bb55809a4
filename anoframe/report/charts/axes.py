"""What several charts share: the plot area, ticks, number format and legend entries."""

from __future__ import annotations

from math import ceil, floor, log10

from markupsafe import Markup

LEFT, TOP, WIDTH = 46, 8, 240  # pixels: left edge, top edge and width of the plot area
RIGHT_MARGIN = 10
LINE_SWATCH, DOT_SWATCH = "0 0 24 8", "0 0 12 12"  # view boxes of the symbols in a legend


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """Return about `count` round numbers from low to high."""
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
    """Format a number with four significant digits.

    >>> number(12.3456789), number(0.000123456), number(3.0)
    ('12.35', '0.0001235', '3')
    """
    return f"{value:.4g}"


def x_at(share: float) -> float:
    """Horizontal position of a value in [0, 1], in pixels."""
    return LEFT + WIDTH * share


def legend_entry(symbol: str, text: str, view_box: str = LINE_SWATCH) -> Markup:
    """One entry of a legend; `symbol` (SVG) and `text` are HTML."""
    kind = " dot" if view_box == DOT_SWATCH else ""
    return Markup(f'<li><svg class="swatch{kind}" viewBox="{view_box}" aria-hidden="true">{symbol}</svg>{text}</li>')
