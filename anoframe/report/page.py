"""`report.html`: one file that needs nothing beside it. The verdict, then each category, then how it was made."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image, features

from anoframe.errors import AnoframeError
from anoframe.evaluation.results import Metrics, percent
from anoframe.metrics.catalogue import HEADLINE, title_of
from anoframe.report.charts import Line, curve_chart, number, score_chart
from anoframe.report.provenance import how_it_was_made
from anoframe.report.run_record import WRONG, Category, Picture, RunRecord
from anoframe.report.stream_section import continual_section, continual_style
from anoframe.report.templating import document
from anoframe.report.training_section import training_section

_GAP = 4  # white pixels between the panels of a strip
_TALLEST = 320  # pixels of a picture in the page
ORACLES = ("image_f1max", "pixel_f1max", "iou_max")
_CHOSEN = (
    '<p class="alert"><strong>The epoch was chosen on the test set</strong> (trainer.select is best_on_test): these '
    "figures are what the luckiest epoch gave, better than a user gets, and not comparable with runs that report their "
    "last epoch.</p>"
)
_NAMES = {
    "image_auroc": "AUROC",
    "image_ap": "AP",
    "image_f1max": "F1-max",
    "pixel_auroc": "AUROC",
    "pixel_ap": "AP",
    "pixel_f1max": "F1-max",
    "aupro": "AUPRO",
    "iou_max": "IoU-max",
    "pro_per_image": "PRO/image",
}


def report_page(run: RunRecord) -> str:
    """The whole page. Every name in it is escaped, and a browser lets it reach for nothing."""
    streamed = run.stream is not None
    sections = "".join(_category(place, category, streamed) for place, category in enumerate(run.categories))
    content = f"{_verdict(run)}{continual_section(run)}{sections}{training_section(run)}{how_it_was_made(run)}"
    body = f"{_head(run)}<main>{content}</main>{_ZOOM}"
    title = f"{run.name}: {', '.join(category.name for category in run.categories)}"
    return document(title, body, continual_style(run))


# ------------------------------------------------------------------------------------------------ the verdict


def _head(run: RunRecord) -> str:
    made, data = run.provenance, run.provenance.get("data", {})
    facts = [
        data.get("name"),
        f"{made['protocol']} protocol" if "protocol" in made else None,
        f"{data['crop']} x {data['crop']} pixels" if "crop" in data else None,
        f"seed {made.get('seed', run.config.get('seed'))}",
        f"run {run.run['id']}" if "id" in run.run else None,
    ]
    line = " · ".join(escape(str(fact)) for fact in facts if fact)
    return (
        f'<header><p class="brand">anoframe report</p><h1>{escape(run.name)}</h1><p class="facts">{line}</p></header>'
    )


def _verdict(run: RunRecord) -> str:
    status = run.run.get("status")
    notes = ""
    failed = [category for category in run.categories if category.failed is not None]
    if failed:
        names = ", ".join(escape(category.name) for category in failed)
        notes += (
            f'<p class="alert"><strong>{len(failed)} of {len(run.categories)} categories failed:</strong> {names}</p>'
        )
    elif status not in (None, "finished"):
        notes += f'<p class="alert"><strong>This run is not finished</strong> (status: {escape(str(status))}).</p>'
    notes += _CHOSEN if run.chosen_on_test else ""
    body = _tiles(run) + _table(run) if run.evaluated else '<p class="note">No category has been evaluated.</p>'
    return f'<section id="verdict"><h2>Verdict</h2>{notes}{body}</section>'


def _over(run: RunRecord, metric: str) -> str:
    """What the number of a tile is of: a mean says how many categories have that metric."""
    total = len(run.evaluated)
    if total == 1:
        return escape(run.evaluated[0].name)
    known = sum(category.metrics.get(metric) is not None for category in run.evaluated)
    return f"mean of {total} categories" if known == total else f"mean of {known} of {total} categories"


def _tiles(run: RunRecord) -> str:
    """The numbers to take away."""
    mean = run.mean or run.evaluated[0].metrics
    tiles = [
        (title_of(name), percent(mean.get(name)), _over(run, name)) for name in ("image_auroc", "pixel_auroc", "aupro")
    ]
    decided = [category.decided() for category in run.evaluated if category.decided()]
    if decided:
        missed, alarms, found, passed = (
            sum(one[key] for one in decided) for key in ("missed", "false alarm", "found", "passed")
        )
        tiles.append(("Missed defects", str(missed), f"of {missed + found}, at the stored threshold"))
        tiles.append(("False alarms", str(alarms), f"of {alarms + passed} good images"))
    items = "".join(
        f'<div class="tile"><dt>{label}</dt><dd>{value}<small>{note}</small></dd></div>' for label, value, note in tiles
    )
    return f'<dl class="tiles">{items}</dl>'


def _table(run: RunRecord) -> str:
    """Headline metrics, then decisions, and last what a wide screen has room for."""
    images = [name for name in HEADLINE if name.startswith("image_")]
    pixels = [name for name in HEADLINE if name not in images]
    more = list(dict.fromkeys(n for c in run.evaluated for n in c.metrics if n not in HEADLINE))
    decided = any(category.decided() for category in run.evaluated)
    groups = {"Image": len(images), "Pixel": len(pixels), "Wrong decisions": 2 * decided, "More": len(more)}
    heads = '<th scope="col" rowspan="2" class="name" data-sort="text"><button type="button">Category</button></th>'
    heads += "".join(f'<th scope="colgroup" colspan="{n}">{name}</th>' for name, n in groups.items() if n)
    columns = "".join(_metric_column(key) for key in (*images, *pixels))
    if decided:
        columns += _column("Missed", "defects below the stored threshold", False)
        columns += _column("False alarms", "good images at or above the stored threshold", False)
    columns += "".join(map(_metric_column, more))
    rows = "".join(_row(place, category, decided, more) for place, category in enumerate(run.categories))
    foot = f"<tfoot>{_mean_row(run, decided, more)}</tfoot>" if len(run.evaluated) > 1 else ""
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Metrics of each category">'
        '<table class="metrics sortable">'
        f"<thead><tr>{heads}</tr><tr>{columns}</tr></thead><tbody>{rows}</tbody>{foot}</table></div>"
        f'<p class="note">Percent; higher is better. † takes its threshold from the test labels (an oracle): what a '
        f"perfect threshold would reach, not what a user gets. n/a: not available. {_left_out(run)}</p>"
    )


def _metric_column(key: str) -> str:
    return _column(_NAMES.get(key, escape(key)), escape(key), key in ORACLES)


def _column(label: str, title: str, oracle: bool) -> str:
    mark = "<sup>†</sup>" if oracle else ""
    return (
        f'<th scope="col" data-sort="number" title="{title}"{" class=oracle" if oracle else ""}>'
        f'<button type="button">{label}{mark}</button></th>'
    )


def _row(place: int, category: Category, decided: bool, more: Sequence[str]) -> str:
    name = f'<th scope="row"><a href="#category-{place}">{escape(category.name)}</a></th>'
    if not category.metrics:
        width = len(HEADLINE) + 2 * decided + len(more)
        reason = category.failed if category.failed is not None else "not evaluated"
        return f'<tr class="failed">{name}<td colspan="{width}">{escape(reason)}</td></tr>'
    return f"<tr>{name}{_cells(category.metrics, category.decided() if decided else None, more)}</tr>"


def _cells(metrics: Metrics, decisions: Mapping[str, int] | None, more: Sequence[str]) -> str:
    """Of a row behind its name; without decisions where no category of the run has any."""
    counts = "" if decisions is None else "".join(_count(decisions.get(key)) for key in WRONG)
    headline, others = ("".join(_cell(metrics.get(k), k in ORACLES) for k in keys) for keys in (HEADLINE, more))
    return headline + counts + others


def _cell(value: float | None, oracle: bool) -> str:
    if value is None:
        return '<td class="missing">n/a</td>'
    share = f"{100 * min(max(value, 0), 1):.1f}%"
    shown = f'<span class="value" style="--share:{share}">{percent(value)}</span>'
    return f'<td{" class=oracle" if oracle else ""} data-value="{value!r}">{shown}</td>'


def _count(value: int | None) -> str:
    if value is None:
        return '<td class="missing">n/a</td>'
    return f'<td class="count{" bad" if value else ""}" data-value="{value}">{value}</td>'


def _mean_row(run: RunRecord, decided: bool, more: Sequence[str]) -> str:
    found = [category.decided() for category in run.evaluated]
    sums = {key: sum(one.get(key, 0) for one in found) for key in WRONG} if decided else None
    label = "mean, and all wrong decisions" if decided else "mean"
    return f'<tr><th scope="row" title="{label}">mean</th>{_cells(run.mean, sums, more)}</tr>'


def _left_out(run: RunRecord) -> str:
    """A mean says over what it is taken."""
    lacking: dict[str, list[str]] = {}
    for category in run.evaluated:
        for name, value in category.metrics.items():
            if value is None:
                lacking.setdefault(category.name, []).append(name)
    if len(run.evaluated) < 2 or not lacking:
        return ""
    return "The mean leaves out " + "; ".join(
        f"{escape(', '.join(names))} of {escape(category)}" for category, names in lacking.items()
    )


# ------------------------------------------------------------------------------------------------ a category


def _category(place: int, category: Category, streamed: bool) -> str:
    head = f'<h2>{escape(category.name)} <a class="top" href="#verdict">to the table</a></h2>'
    if category.failed is not None:
        head += f'<p class="alert"><strong>Failed:</strong> {escape(category.failed)}</p>'
    body = f"{_summary(category)}{_scores(category, streamed)}{_curves(category)}{_gallery(category)}"
    return f'<section id="category-{place}" class="category">{head}{body}</section>'


def _summary(category: Category) -> str:
    if not category.metrics:
        return ""
    shown = ("image_auroc", "pixel_auroc", "aupro")
    names = ("image AUROC", "pixel AUROC", "AUPRO")
    values = [f"{name} <b>{percent(category.metrics.get(key))}</b>" for key, name in zip(shown, names, strict=True)]
    counts = category.counts
    if counts:
        values.append(
            f"{_text(counts.get('train', 0))} training, {_text(counts.get('test_good', 0))} good and "
            f"{_text(counts.get('test_defect', 0))} defect test images"
        )
    return f'<p class="summary">{" · ".join(values)}</p>'


def _scores(category: Category, streamed: bool) -> str:
    if not category.metrics:
        return ""
    if not category.images:
        return (
            '<p class="note">No histogram and no decisions: this run folder has no scores of the single test images '
            "(results/).</p>"
        )
    return f'<h3>Scores</h3><p class="decisions">{_decisions(category, streamed)}</p>{score_chart(category)}'


def _decisions(category: Category, streamed: bool) -> str:
    if category.threshold is None or category.limit is None:
        why = "no normal training images were held back to set one (threshold.held_back), or too few"
        if streamed:
            why = "none is found on a stream of tasks"
        return f"There is no threshold, so nothing was decided: {why}. None is taken from the test set."
    found = category.decided()
    missed = _wrong(found["missed"], found["missed"] + found["found"])
    alarms = _wrong(found["false alarm"], found["false alarm"] + found["passed"])
    told = category.threshold
    source = f" of {_text(told['images'])} held-back normal training images" if "images" in told else ""
    aim = ""
    if isinstance(told.get("false_positive_rate"), (int, float)):
        aim = f" for a false-alarm rate of {100 * told['false_positive_rate']:.3g} %"
    return (
        f"A score of <b>{number(category.limit)}</b> or more is a defect. {missed} defects missed, {alarms} good "
        f"images flagged (in red below). The threshold was set{aim} on the scores{source}, not on the test set."
        f"{_promise(told)}"
    )


def _promise(threshold: Mapping[str, Any]) -> str:
    """A word where too few images were held back for the rate that was asked for (docs/runs.md, thresholds)."""
    images, rate = threshold.get("images"), threshold.get("false_positive_rate")
    if not (isinstance(images, int) and isinstance(rate, (int, float))) or (images + 1) * rate >= 1:
        return ""
    return f" So few can promise no rate below {100 / (images + 1):.3g} %."


def _wrong(count: int, total: int) -> str:
    return f"<b{' class=bad' if count else ''}>{count} of {total}</b>"


def _curves(category: Category) -> str:
    if not category.metrics:
        return ""
    known, metrics = category.curves, category.metrics

    def line(label: str, style: str, curve: str, metric: str) -> Line:
        return Line(label, style, known.get(curve), percent(metrics.get(metric)))

    rates = _rates(category)
    roc = [line("image AUROC", "image", "roc", "image_auroc"), line("pixel AUROC", "pixel", "pixel_roc", "pixel_auroc")]
    pr = [line("image AP", "image", "pr", "image_ap"), line("pixel AP", "pixel", "pixel_pr", "pixel_ap")]
    pro = [line("AUPRO", "pixel", "pro", "aupro")]
    point, precision = (rates[:2], rates[1:]) if rates else (None, None)
    charts = [
        curve_chart("ROC", ("false positive rate", "true positive rate"), roc, diagonal=True, point=point),
        curve_chart("Precision and recall", ("recall", "precision"), pr, point=precision),
        curve_chart("Per-region overlap, to FPR 0.3", ("false positive rate of pixels", "overlap"), pro, limit=0.3),
    ]
    if not any(charts):
        return '<p class="note">No curves: this run folder does not hold them.</p>'
    lacking = [] if charts[2] else ["no curves of pixels: defects without masks, or one class only"]
    note = f'<p class="note">{lacking[0]}</p>' if lacking else ""
    return f'<h3>Curves</h3><div class="curves">{"".join(charts)}</div>{note}'


def _rates(category: Category) -> tuple[float, float, float] | None:
    """False positive rate, recall and precision of the decisions, where all three are there."""
    found = category.decided()
    if not found:
        return None
    good, defects = found["false alarm"] + found["passed"], found["found"] + found["missed"]
    flagged = found["false alarm"] + found["found"]
    if not (good and defects and flagged):
        return None
    return found["false alarm"] / good, found["found"] / defects, found["found"] / flagged


# ------------------------------------------------------------------------------------------------ pictures

_LEGEND = (
    "Image, ground truth, anomaly map, and outlines on the image: truth in green, in red what reaches the threshold "
    "for pixels (where there is none, the 99 % quantile of good test pixels: for looking). Maps of a category share "
    "one scale. Shown are the worst, the borderline and the best."
)
_KINDS = ("worst", "borderline", "best")
_ORDERS = (("wrong", "wrong first"), ("high", "score, high first"), ("low", "score, low first"))
_PANELS = (("all", "All four"), ("0", "Image"), ("1", "Truth"), ("2", "Map"), ("3", "Outlines"))
_OUTCOMES = (("", "all"), ("wrong", "wrong"), ("right", "right"))
_ZOOM = (
    '<dialog id="zoom" aria-label="Picture, enlarged">'
    '<div class="zoom-head"><p id="zoom-caption" aria-live="polite"></p>'
    '<button type="button" data-step="-1" aria-label="Previous picture">←</button>'
    '<button type="button" data-step="1" autofocus aria-label="Next picture">→</button>'
    '<button type="button" data-close aria-label="Close">✕</button></div><div class="panels"></div></dialog>'
)


def _gallery(category: Category) -> str:
    if not category.pictures:
        return '<p class="note">No pictures: this run folder has none of this category.</p>' if category.metrics else ""
    ordered = sorted(category.pictures, key=lambda one: (_rank(one, category.limit), -one.score, one.name))
    figures = "".join(_figure(one, category.limit) for one in ordered)
    return (
        f'<h3>Pictures</h3><p class="note">{_LEGEND}</p>'
        f'<div class="gallery-block">{_filters(category)}<div class="gallery" data-panel="all">{figures}</div></div>'
    )


def _rank(picture: Picture, threshold: float | None) -> int:
    """Wrong ones first; where nothing was decided, those that rank worst."""
    if threshold is not None:
        return int(picture.outcome(threshold) not in WRONG)
    return _KINDS.index(picture.kind) if picture.kind in _KINDS else len(_KINDS)


def _filters(category: Category) -> str:
    kinds: dict[str, int] = {}
    for one in sorted(category.pictures, key=lambda one: (one.is_defect, one.defect)):
        kinds[one.defect] = kinds.get(one.defect, 0) + 1
    defects = '<option value="">all</option>' + "".join(
        f'<option value="{escape(kind)}">{escape(kind)} ({count})</option>' for kind, count in kinds.items()
    )
    selects = f'<label>Defect <select name="defect">{defects}</select></label>'
    if category.limit is not None:
        selects += f'<label>Decision <select name="outcome">{_options(_OUTCOMES)}</select></label>'
    selects += f'<label>Order <select name="order">{_options(_ORDERS)}</select></label>'
    selects += f'<label>Show <select name="panel">{_options(_PANELS)}</select></label>'
    return f'<form class="filters" hidden>{selects}<output aria-live="polite"></output></form>'


def _options(pairs: Sequence[tuple[str, str]]) -> str:
    return "".join(f'<option value="{value}">{label}</option>' for value, label in pairs)


def _figure(picture: Picture, threshold: float | None) -> str:
    source, shape = _embedded(picture.path)
    outcome = picture.outcome(threshold)
    wrong = outcome in WRONG
    facts = f"{picture.defect}, {picture.name}, score {number(picture.score)}"
    said = f"{facts}, {outcome}" if outcome else facts
    group = "" if not outcome else "wrong" if wrong else "right"
    badge = f'<span class="badge{" bad" if wrong else ""}">{outcome or escape(picture.kind)}</span>'
    file = picture.name if picture.name.startswith(f"{picture.defect}/") else f"{picture.defect}/{picture.name}"
    return (
        f'<figure data-defect="{escape(picture.defect)}" data-outcome="{group}" data-score="{picture.score!r}" '
        f'data-rank="{_rank(picture, threshold)}"><button type="button" aria-haspopup="dialog" '
        f'aria-label="Enlarge: {escape(said)}"{shape}><img src="{source}" alt="" decoding="async"></button>'
        f'<figcaption>{badge}<span class="file">{escape(file)}</span><span class="score">{number(picture.score)}</span>'
        f"</figcaption></figure>"
    )


def _embedded(path: Path) -> tuple[str, str]:
    """A picture as a data address, and where its panels are if it is a strip of four."""
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (OSError, Image.DecompressionBombError, ValueError) as error:
        raise AnoframeError(f"{path} is no picture ({error}): restore it, or run its category again") from error
    width, height = picture.size
    shape = f' style="--ratio:{width / height:.4f}"'
    if width == 4 * height + 3 * _GAP:
        step, panel = (height + _GAP) / width, height / width
        shape = f' class="strip" style="--ratio:{width / height:.4f};--step:{step:.5f};--panel:{panel:.5f}"'
        picture = _without_gaps(picture)
    if height > _TALLEST:
        picture = picture.resize((round(width * _TALLEST / height), _TALLEST), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    kind = "webp" if features.check("webp") else "jpeg"
    (picture if kind == "webp" else picture.convert("RGB")).save(buffer, kind.upper(), quality=82)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}", shape


def _without_gaps(strip: Image.Image) -> Image.Image:
    """The page shows through between the panels; under the gaps lies their neighbour, so no white bleeds into it."""
    height = strip.height
    drawn, seen = strip.copy(), Image.new("L", strip.size, 255)
    for panel in range(1, 4):
        right = panel * (height + _GAP)
        for column in range(_GAP):
            source = right - _GAP - 1 if column < _GAP // 2 else right
            drawn.paste(strip.crop((source, 0, source + 1, height)), (right - _GAP + column, 0))
        seen.paste(0, (right - _GAP, 0, right, height))
    drawn.putalpha(seen)
    return drawn


def _text(value: Any) -> str:
    return escape(str(value))
