"""`report.html`: one file that needs nothing beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from PIL import Image

from anoframe.evaluation.results import HEADLINE, Results, percent


@dataclass(frozen=True)
class Shown:
    """One picture of the report."""

    category: str
    kind: str  # worst, borderline or best
    defect: str
    name: str  # of the image file
    score: float
    picture: Image.Image


def report_page(title: str, results: Results, shown: Sequence[Shown], facts: Mapping[str, Any]) -> str:
    """The verdict first, then pictures a category, then how it was made."""
    categories = "".join(_category(name, [one for one in shown if one.category == name]) for name in results.categories)
    body = f"<h1>{escape(title)}</h1>{_table(results)}{categories}<h2>How it was made</h2>{_facts(facts)}"
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body><main>{body}</main></body></html>\n'


_STYLE = """
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;margin:0}
main{max-width:72rem;margin:auto;padding:1.5rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .8rem;text-align:right;border-bottom:1px solid #8884}
th:first-child,td:first-child{text-align:left}tr.mean td{font-weight:600;border-top:2px solid}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(30rem,1fr));gap:1rem}
figure{margin:0}img{max-width:100%;border-radius:4px}figcaption{font-size:.85rem;opacity:.8}.note{opacity:.75;max-width:60rem}
"""

_NOTE = (
    "Percent. image_f1max, pixel_f1max and iou_max take their threshold from the test labels (oracle values). "
    "n/a: not available. Definitions: docs/metrics.md."
)
_LEGEND = (
    "Left to right: image, ground truth, heatmap, outlines (green: truth; red: above the 99 % quantile of good "
    "test pixels). Heatmaps of a category share one scale."
)


def _table(results: Results) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("category", *HEADLINE))
    rows = [(name, metrics, "") for name, metrics in results.categories.items()]
    if len(rows) > 1:
        rows.append(("mean", results.mean, ' class="mean"'))
    lines = "".join(
        f"<tr{style}><td>{escape(name)}</td>{''.join(f'<td>{percent(metrics.get(key))}</td>' for key in HEADLINE)}</tr>"
        for name, metrics, style in rows
    )
    return f'<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table><p class="note">{_NOTE}</p>'


def _category(name: str, shown: Sequence[Shown]) -> str:
    groups = "".join(
        f'<h3>{kind}</h3><div class="pictures">{"".join(_figure(one) for one in shown if one.kind == kind)}</div>'
        for kind in dict.fromkeys(one.kind for one in shown)
    )
    return f'<section><h2>{escape(name)}</h2><p class="note">{_LEGEND}</p>{groups}</section>'


def _figure(one: Shown) -> str:
    buffer = io.BytesIO()
    one.picture.save(buffer, "JPEG", quality=85)
    source = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    caption = escape(f"{one.defect}, {one.name}, score {one.score:.4g}")
    return f'<figure><img src="{source}" alt="{caption}" loading="lazy"><figcaption>{caption}</figcaption></figure>'


def _facts(facts: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>" for name, value in facts.items())
    return f"<table>{rows}</table>"
