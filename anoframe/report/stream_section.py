"""How a stream of tasks went: what was kept of each, matrices, what has grown, and where it expanded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from anoframe.continual.results import JOINT
from anoframe.evaluation.results import fixed, percent
from anoframe.metrics.catalogue import title_of
from anoframe.metrics.continual import Matrix, average, forgetting, forgetting_of_each
from anoframe.report.charts import Series, epoch_chart
from anoframe.report.run_record import RunRecord
from anoframe.report.stream_record import Expansion, Site, Stream

_STYLE = Path(__file__).with_name("assets") / "continual.css"
_DRAWN = ("image_auroc", "pixel_auroc", "aupro")
COLUMNS = {  # key -> head, what it is, whether higher is better
    "acc": ("ACC", "mean over the tasks seen, at the end", True),
    "acc_classes": ("ACC, classes", "mean over the categories seen, at the end", True),
    "aia": ("AIA", "mean of ACC after each task", True),
    "fm": ("FM, from best", "mean over tasks of the best value before the last task, less the one at the end", False),
    "fm_diagonal": (
        "FM, from diagonal",
        "mean over tasks of the value just learned, less the one at the end",
        False,
    ),
    "bwt": ("BWT", "backward transfer: the negative of FM, from diagonal", True),
    "fwt": ("FWT", "forward transfer: the value just before learning, less that of a constant score", True),
}
_LEAST_SPAN = 0.1  # of the values of a matrix that its colours spread over: small differences stay pale
_PALEST, _DEEPEST = 6, 45  # percent of the strongest colour: text on it can be read in light and dark
_MATRICES = (
    "A row is the time after a task, a column the test images of a task. Deeper is higher; each matrix has its own "
    "scale. Outlined is a task that has just been learned, grey one still to come. ACC is the mean over the tasks "
    "seen, and “forgotten” the best value before the last task less the one after it: below 0 where the end is best."
)


def continual_style(run: RunRecord) -> str:
    """CSS that the section needs; empty where there is none, so that other pages stay as they are."""
    return _STYLE.read_text(encoding="utf-8") if run.stream else ""


def continual_section(run: RunRecord) -> str:
    """Empty for a run that is not continual."""
    stream = run.stream
    if stream is None:
        return ""
    parts = [_summary(stream)]
    if stream.learned:
        parts += [_kept(stream), _tasks(stream), _pictures(stream), _over_tasks(stream), _growth(stream)]
        parts.append(_expansions(stream))
    head = '<h2>Stream of tasks <a class="top" href="#verdict">to the table</a></h2>'
    return f'<section id="stream">{head}{"".join(parts)}</section>'


def _summary(stream: Stream) -> str:
    tasks, categories = len(stream.tasks), sum(map(len, stream.tasks))
    line = (
        f"strategy <b>{escape(stream.strategy)}</b> · <b>{tasks}</b> task{'s' * (tasks > 1)} · "
        f"<b>{categories}</b> categor{'ies' if categories > 1 else 'y'}"
    )
    alert = ""
    if not stream.learned or stream.seen(stream.learned - 1) < len(stream.tasks):
        alert = f'<p class="alert"><strong>{stream.learned} of {len(stream.tasks)} tasks are learned:</strong> all '
        alert += "means are over these.</p>"
    return f'{alert}<p class="summary">{line}</p>'


# ------------------------------------------------------------------------------------------------ tables


def _kept(stream: Stream) -> str:
    heads = "".join(
        f'<th scope="col" title="{what}">{head}{"" if high else " ↓"}</th>' for head, what, high in COLUMNS.values()
    )
    rows = "".join(
        f'<tr><th scope="row">{escape(title_of(name))}</th>{_cells(values.get(key) for key in COLUMNS)}</tr>'
        for name, values in stream.last.items()
    )
    note = (
        "Percent, at the end of the stream; ↓ is better when lower. FM is forgetting, by two definitions. FWT is "
        f"measured from a score that is the same for everything. n/a: not available. {_left_out(stream)}"
    )
    return f'{_table("What was kept", ["<th>Metric</th>", heads], rows)}<p class="note">{note}</p>'


def _cells(values: Iterable[float | None]) -> str:
    return "".join('<td class="missing">n/a</td>' if v is None else f"<td>{percent(v)}</td>" for v in values)


def _left_out(stream: Stream) -> str:
    """A mean says over what it is taken."""
    lacking: dict[str, list[str]] = {}
    for name in stream.matrices:
        for category in (category for task in stream.tasks for category in task):
            if any(one.get(category, {}).get(name) is None for one in stream.classes):
                lacking.setdefault(category, []).append(name)
    if not lacking:
        return ""
    return "Means leave out " + "; ".join(
        f"{escape(', '.join(names))} of {escape(category)}" for category, names in lacking.items()
    )


def _tasks(stream: Stream) -> str:
    """What each task is, what it took, and what became of the key metric."""
    metric = escape(title_of(stream.key_metric))
    names = ["Task", "Categories", "Seconds", "Parameters", "Changed"]
    heads = "".join(f'<th scope="col"{" class=categories" * (name == "Categories")}>{name}</th>' for name in names)
    grown = any(stream.adapters)
    heads += '<th scope="col">Adapters</th>' if grown else ""
    heads += f'<th scope="col">{metric}, just learned</th><th scope="col">{_when(stream, stream.learned - 1)}</th>'
    rows = "".join(_task(stream, task, grown) for task in range(len(stream.tasks)))
    return _table("Tasks", [heads], rows)


def _task(stream: Stream, task: int, grown: bool) -> str:
    cells = f'<td class="categories">{escape(", ".join(stream.tasks[task]))}</td>'
    if task < stream.learned:
        cells += f"<td>{stream.seconds[task]:.1f}</td><td>{stream.params_total[task]:,}</td>"
        cells += f"<td>{stream.params_trainable[task]:,}</td>"
        cells += f"<td>{sum(stream.adapters[task].values())}</td>" if grown else ""
    else:
        cells += "<td></td>" * (3 + grown)
    rows = stream.matrices.get(stream.key_metric, [])
    new = rows[task][task] if task < len(rows) and stream.strategy != JOINT else None
    cells += _cells([new, rows[-1][task] if rows else None])
    return f'<tr><th scope="row">{task}</th>{cells}</tr>'


def _table(title: str, heads: Sequence[str], rows: str) -> str:
    return (
        f'<h3>{title}</h3><div class="scroll" tabindex="0" role="region" aria-label="{title}">'
        f'<table class="metrics of-stream"><thead><tr>{"".join(heads)}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


# ------------------------------------------------------------------------------------------------ matrices


def _pictures(stream: Stream) -> str:
    drawn = "".join(_matrix(stream, name, title_of(name)) for name in _DRAWN if name in stream.matrices)
    return f'<h3>After each task</h3><p class="note">{_MATRICES}</p><div class="matrices">{drawn}</div>'


def _matrix(stream: Stream, name: str, label: str) -> str:
    rows = stream.matrices[name]
    known = [v for i, row in enumerate(rows) for v in row[: stream.seen(i)] if v is not None]
    if not known:
        return ""
    low = min(known)
    span = max(max(known) - low, _LEAST_SPAN)
    heads = "".join(_task_head(stream, task) for task in range(len(stream.tasks)))
    body = "".join(_matrix_row(stream, rows, i, (low, span)) for i in range(len(rows)))
    foot = ""
    if stream.strategy != JOINT and len(rows) > 1:
        empty = "<td></td>" * (len(stream.tasks) - len(rows) + 1)
        lost = "".join(map(_total, forgetting_of_each(rows)))
        foot = f'<tfoot><tr><th scope="row">forgotten</th>{lost}{empty}{_total(forgetting(rows))}</tr></tfoot>'
    return _figure(f"{label} <small>percent</small>", f"<th></th>{heads}<th>ACC</th>", body, foot)


def _matrix_row(stream: Stream, rows: Matrix, entry: int, scale: tuple[float, float]) -> str:
    seen, one_by_one = stream.seen(entry), stream.strategy != JOINT
    squares = "".join(_square(v, scale, j < seen, one_by_one and j == entry) for j, v in enumerate(rows[entry]))
    mean = _total(average(rows[: entry + 1], seen))
    return f'<tr><th scope="row">{_when(stream, entry)}</th>{squares}{mean}</tr>'


def _task_head(stream: Stream, task: int) -> str:
    return f'<th scope="col" title="task {task}: {escape(", ".join(stream.tasks[task]))}">{task}</th>'


def _when(stream: Stream, entry: int) -> str:
    return "after all" if stream.strategy == JOINT else f"after {entry}"


def _square(value: float | None, scale: tuple[float, float], seen: bool, just_learned: bool) -> str:
    kind = "" if seen else " class=later"
    if value is None:
        return f"<td{kind}>n/a</td>"
    low, span = scale
    depth = f' style="--depth:{_PALEST + (_DEEPEST - _PALEST) * (value - low) / span:.1f}%"' if seen else ""
    kind = " class=new" if just_learned else kind
    return f'<td{kind}{depth} title="{percent(value)}">{fixed(100 * value, 1)}</td>'


def _total(value: float | None) -> str:
    return f"<td class=total>{'n/a' if value is None else fixed(100 * value, 1)}</td>"


def _figure(title: str, heads: str, body: str, foot: str = "") -> str:
    return (
        f'<figure class="matrix"><figcaption>{title}</figcaption><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{title.split(" <")[0]}"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody>{foot}</table>'
        "</div></figure>"
    )


# ------------------------------------------------------------------------------------------------ over tasks


def _over_tasks(stream: Stream) -> str:
    if stream.learned < 2:
        return ""
    charts = [
        _chart(stream, "ACC", "acc"),
        _chart(stream, "Forgetting, from best", "fm"),
        epoch_chart("Parameters, millions", _parameters(stream), over="task", from_zero=True),
    ]
    return f'<h3>Over tasks</h3><div class="curves training">{"".join(charts)}</div>'


def _chart(stream: Stream, title: str, key: str) -> str:
    series = [Series(title_of(name), stream.over_tasks(name, key)) for name in _DRAWN]
    return epoch_chart(title, series, shares=True, over="task")


def _parameters(stream: Stream) -> list[Series]:
    counts = {"all": stream.params_total, "changed by the task": stream.params_trainable}
    return [Series(name, [(i, value / 1e6) for i, value in enumerate(values)]) for name, values in counts.items()]


def _growth(stream: Stream) -> str:
    """How many adapters each site has after each task."""
    sites = stream.sites
    if not sites:
        return ""
    most = max(max(one.values()) for one in stream.adapters if one)
    heads = "".join(f'<th scope="col">{_when(stream, i)}</th>' for i in range(stream.learned))
    body = "".join(_site_row(stream, site, most) for site in sites)
    foot = "".join(f"<td class=total>{sum(one.values())}</td>" for one in stream.adapters)
    figure = _figure(
        f"Adapters of {len(sites)} sites",
        f"<th>layer</th>{heads}",
        body,
        f'<tfoot><tr><th scope="row">all</th>{foot}</tr></tfoot>',
    )
    note = '<p class="note">Outlined is a site that has grown in that task.</p>'
    return f'<h3>Adapters</h3>{note}<div class="matrices">{figure}</div>'


def _site_row(stream: Stream, site: Site, most: int) -> str:
    counts = [one.get(site, 0) for one in stream.adapters]
    cells = ""
    for before, count in zip([counts[0], *counts], counts, strict=False):
        grown = " class=new" if count > before else ""
        cells += f'<td{grown} style="--depth:{_DEEPEST * count / most:.1f}%">{count}</td>'
    return f'<tr><th scope="row">{_place(site)}</th>{cells}</tr>'


def _place(site: Site) -> str:
    return f"{site[0]} {escape(site[1])}".strip()


def _expansions(stream: Stream) -> str:
    if not stream.sites:
        return ""
    note = (
        f"A site gets an adapter where the z of each that it has, averaged over a batch, is above "
        f"{escape(str(stream.threshold))}: every adapter finds the batch strange. At most one a site and task."
    )
    if stream.threshold is None:
        note = "There is no threshold of z, above which a site would get another adapter."
    if not stream.expansions:
        return f'<h3>Expansions</h3><p class="note">No task expanded. {note}</p>'
    names = ("Task", "Layer", "Pass", "Batch", "Least z", "z of each adapter")
    heads = "".join(f'<th scope="col">{name}</th>' for name in names)
    table = _table("Expansions", [heads], "".join(map(_event, stream.expansions)))
    return f'{table}<p class="note">{note}</p>'


def _event(event: Expansion) -> str:
    slots = ", ".join(f"{z:.2f}" for z in event.slot_z)
    return (
        f'<tr><th scope="row">{event.task}</th><td>{_place(event.site)}</td><td>{event.scan}</td><td>{event.batch}</td>'
        f"<td>{event.least_z:.2f}</td><td>{slots}</td></tr>"
    )
