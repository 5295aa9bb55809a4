"""`grid.html`: the table of a grid and a picture of it, in one file, with links to the reports of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from anoframe.evaluation.results import percent
from anoframe.metrics.catalogue import title_of
from anoframe.report.charts import nice_ticks, number
from anoframe.report.grid_table import FM, SHOWN, Figure, GridSummary, GridTable, Row, heading, missing, path_from
from anoframe.report.page import document

_LINE = 22  # pixels of a row of the picture


def grid_page(summary: GridSummary, home: Path) -> str:
    """The whole page.

    Args:
        home: the folder that the page will lie in; links start from it.
    """
    configs = list(dict.fromkeys(name for table in summary.tables for name in table.configs))
    title = f"Grid of {len(configs)} {'config' if len(configs) == 1 else 'configs'}"
    seeds = ", ".join(map(str, summary.seeds))
    line = f"{escape(', '.join(configs))} · {'seed' if len(summary.seeds) == 1 else 'seeds'} {seeds}"
    head = f'<header><p class="brand">anoframe grid</p><h1>{title}</h1><p class="facts">{line}</p></header>'
    sections = "".join(_section(table, summary.seeds, home) for table in summary.tables)
    return document(title, f"{head}<main>{_alerts(summary)}{sections}</main>")


def _alerts(summary: GridSummary) -> str:
    failed = "".join(
        f'<p class="alert"><strong>{escape(one.cell)}</strong> failed: {escape(one.reason)}</p>'
        for one in summary.failures
    )
    refused = "".join(f'<p class="alert">{escape(reason)}</p>' for reason in summary.refusals)
    blocks = (("Failed", failed), ("Not in one table", refused))
    return "".join(f"<section><h2>{title}</h2>{content}</section>" for title, content in blocks if content)


def _section(table: GridTable, seeds: Sequence[int], home: Path) -> str:
    configs = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape('; '.join(about)) or 'nothing else'}</dd>"
        for name, about in table.configs.items()
    )
    pictures = "".join(_picture(table, metric) for metric in SHOWN)
    return (
        f'<section class="grid-table"><h2>{escape(" · ".join(heading(table)))}</h2>{_table(table, seeds, home)}'
        f'<p class="note">{table.notes} The best of a category is bold. A mean is over the categories that every '
        f'config has.</p><dl class="facts">{configs}</dl><h3>The same as a picture</h3>'
        '<p class="note">A dot is a seed, the upright line their mean, the bar the interval of the table.</p>'
        f'<div class="dot-plots">{pictures}</div></section>'
    )


# ------------------------------------------------------------------------------------------------ the table


def _table(table: GridTable, seeds: Sequence[int], home: Path) -> str:
    heads = "".join(
        f'<th scope="col" data-sort="text"{kind}><button type="button">{name}</button></th>'
        for name, kind in (("Category", ' class="name"'), ("Config", ""))
    )
    heads += "".join(
        f'<th scope="col" data-sort="number"><button type="button">{title_of(metric)}</button></th>' for metric in SHOWN
    )
    body = "".join(_row(table, row, seeds, home) for row in table.rows if row.category is not None)
    means = "".join(_row(table, row, seeds, home) for row in table.rows if row.category is None)
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Metrics of each config and category">'
        f'<table class="metrics sortable"><thead><tr>{heads}<th scope="col">Runs</th></tr></thead>'
        f"<tbody>{body}</tbody>{f'<tfoot>{means}</tfoot>' if means else ''}</table></div>"
    )


def _row(table: GridTable, row: Row, seeds: Sequence[int], home: Path) -> str:
    cells = "".join(_cell(table, row, metric, seeds) for metric in SHOWN)
    links = " ".join(
        f'<a href="{escape(quote(path_from(home, folder)))}/report.html" title="report of seed {seed}">{seed}</a>'
        for seed, folder in row.runs.items()
    )
    return (
        f'<tr><th scope="row">{escape(row.label)}</th><td class="config">{escape(row.config)}</td>{cells}'
        f'<td class="runs">{links}</td></tr>'
    )


def _cell(table: GridTable, row: Row, metric: str, seeds: Sequence[int]) -> str:
    figure = row.figures.get(metric)
    if figure is None:
        return '<td class="missing">n/a</td>'
    spread = "" if figure.std is None else f" ± {100 * figure.std:.2f}"
    small = [] if figure.interval is None else [_between(figure.interval)]
    small += [lacks] if (lacks := missing(figure, table, seeds)) else []
    style = ' class="best"' if table.best(row, metric) else ""
    below = "".join(f"<small>{escape(line)}</small>" for line in small)
    return f'<td{style} data-value="{figure.mean!r}">{percent(figure.mean)}{spread}{below}</td>'


def _between(bounds: tuple[float, float]) -> str:
    return f"{percent(bounds[0])} to {percent(bounds[1])}"


# ------------------------------------------------------------------------------------------------ the picture


def _picture(table: GridTable, metric: str) -> str:
    """A line a config and category on one axis; names of configs stand at the left, means at the right."""
    rows = [row for row in table.rows if metric in row.figures and row.summary != FM]  # which lies elsewhere
    if not rows:
        return ""
    low, high = _range([row.figures[metric] for row in rows])
    lines, last = "", ""
    for row in rows:
        if row.label != last:
            lines += f'<p class="dots-of">{escape(row.label)}</p>'
            last = row.label
        lines += _drawn(row, row.figures[metric], low, high)
    ticks = "".join(
        f'<span style="left:{100 * _place(tick / 100, low, high):.2f}%">{number(tick)}</span>'
        for tick in nice_ticks(100 * low, 100 * high, 6)
    )
    axis = f'<div class="score-row"><span class="row-name">percent</span><div class="ticks">{ticks}</div></div>'
    return f'<figure class="dot-plot"><figcaption>{title_of(metric)}</figcaption>{lines}{axis}</figure>'


def _range(figures: Sequence[Figure]) -> tuple[float, float]:
    """From the lowest to the highest that is drawn, with a little air; never beyond 0 and 1."""
    values = [value for figure in figures for value in (*figure.values.values(), *(figure.interval or ()))]
    low, high = min(values), max(values)
    air = max((high - low) * 0.04, 0.002)
    return max(low - air, 0.0), min(high + air, 1.0)


def _place(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low)


def _drawn(row: Row, figure: Figure, low: float, high: float) -> str:
    def x(value: float) -> str:
        return f"{1000 * _place(value, low, high):.1f}"

    middle = _LINE // 2
    bar = ""
    if figure.interval is not None:
        bar = f'<path class="interval" d="M{x(figure.interval[0])} {middle}H{x(figure.interval[1])}"/>'
    dots = "".join(f"M{x(value)} {middle}h0" for value in figure.values.values())
    mark = f'<path class="mean-mark" d="M{x(figure.mean)} 4V{_LINE - 4}"/>'
    name = escape(row.config)
    return (
        f'<div class="score-row"><span class="row-name" title="{name}">{name}</span>'
        f'<svg viewBox="0 0 1000 {_LINE}" preserveAspectRatio="none" style="height:{_LINE}px" role="img" '
        f'aria-label="{escape(row.label)}, {name}: {figure.text()}"><path class="rail" d="M0 {middle}H1000"/>{bar}'
        f'<path class="dots seed" d="{dots}"/>{mark}</svg><span class="tally">{percent(figure.mean)}</span></div>'
    )
