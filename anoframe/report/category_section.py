"""Section of one category: decisions, scores, curves, method summary, and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from anoframe.evaluation.decision import lowest_rate
from anoframe.evaluation.results import percent
from anoframe.metrics.catalogue import SUMMARY, title_of
from anoframe.report.category_record import Category
from anoframe.report.charts import Line, curve_chart, number, score_chart
from anoframe.report.explorer import Explorer, explorer
from anoframe.report.gallery import Gallery, gallery
from anoframe.report.method_section import MethodView, method_view
from anoframe.report.references import Thumbnail, thumbnails


@dataclass(frozen=True)
class Decisions:
    """What the stored threshold decided.

    Attributes:
        threshold: the image score from which on an image is a defect.
        missed, defects: number of defects below the threshold, and of all defects.
        false_alarms, good: number of good images at or above the threshold, and of all good images.
        rate: false-alarm rate that was asked for, in percent; empty if not known.
        num_images: number of training images that the threshold was set on; empty if not known.
        is_given: whether the user gave the threshold as a score.
        lowest_rate: the lowest rate that so few images can guarantee, in percent; empty if it is low enough.
    """

    threshold: str
    missed: int
    defects: int
    false_alarms: int
    good: int
    rate: str
    num_images: str
    lowest_rate: str
    is_given: bool = False


@dataclass(frozen=True)
class CategoryView:
    """Values of `category.html`.

    Attributes:
        failed: why the category failed; None if it did not.
        metrics: (title, value) of the headline numbers; empty if it was not evaluated.
        counts: number of images; None if not known.
        has_scores: whether the scores of the test images are known.
        decisions: None without a threshold.
        charts: charts of curves; empty if there are none.
        explorer: what the script of the page explores; None without scores.
        has_pixel_curves: whether there is a curve of per-region overlap.
        references: training images of a few-shot run.
    """

    name: str
    failed: str | None
    metrics: list[tuple[str, str]]
    counts: Mapping[str, Any] | None
    has_scores: bool
    decisions: Decisions | None
    score_chart: Markup
    explorer: Explorer | None = None
    charts: list[Markup] = field(default_factory=list)
    has_pixel_curves: bool = False
    method: MethodView | None = None
    gallery: Gallery | None = None
    references: list[Thumbnail] = field(default_factory=list)


def category_view(category: Category, index: int = 0) -> CategoryView:
    """Prepare the section of a category, the `index`-th of the page."""
    charts = _curve_charts(category)
    summary = category.method_summary
    return CategoryView(
        name=category.name,
        failed=category.failed,
        metrics=[(title_of(name), percent(category.metrics.get(name))) for name in SUMMARY] if category.metrics else [],
        counts=_counts(category),
        has_scores=bool(category.images),
        decisions=_decisions(category),
        score_chart=score_chart(category),
        explorer=explorer(category, index),
        charts=[chart for chart in charts if chart],
        has_pixel_curves=bool(charts[-1]),
        method=None if summary is None else method_view(summary),
        gallery=gallery(category) if category.pictures else None,
        references=thumbnails(category.references),
    )


def _counts(category: Category) -> dict[str, Any] | None:
    counts = category.counts
    names = ("train", "train_defect", "test_good", "test_defect")
    return {name: counts.get(name, 0) for name in names} if counts else None


# ------------------------------------------------------------------------------------------------ decisions


def _decisions(category: Category) -> Decisions | None:
    outcomes = category.count_outcomes()
    if not outcomes or category.threshold is None or category.image_threshold is None:
        return None
    rate, images = category.threshold.get("false_positive_rate"), category.threshold.get("images")
    return Decisions(
        threshold=number(category.image_threshold),
        missed=outcomes["missed"],
        defects=outcomes["missed"] + outcomes["found"],
        false_alarms=outcomes["false alarm"],
        good=outcomes["false alarm"] + outcomes["passed"],
        rate=f"{100 * rate:.3g}" if isinstance(rate, (int, float)) else "",
        num_images=str(images) if images else "",
        lowest_rate=_lowest_rate(images, rate),
        is_given="image" in (category.threshold.get("given") or ()),
    )


def _lowest_rate(images: Any, rate: Any) -> str:
    """The lowest guaranteed false-alarm rate in percent, if it is above the rate asked for (docs/runs.md)."""
    if not (isinstance(images, int) and isinstance(rate, (int, float))) or (images + 1) * rate >= 1:
        return ""
    return f"{100 * lowest_rate(images):.3g}"


# ------------------------------------------------------------------------------------------------ curves


def _curve_charts(category: Category) -> list[Markup]:
    """Charts of ROC, precision and recall, and per-region overlap; empty strings where curves are not available."""

    def line(curve: str, metric: str) -> Line:
        style = "image" if metric.startswith("image_") else "pixel"
        return Line(title_of(metric), style, category.curves.get(curve), percent(category.metrics.get(metric)))

    roc = [line("roc", "image_auroc"), line("pixel_roc", "pixel_auroc")]
    pr = [line("pr", "image_ap"), line("pixel_pr", "pixel_ap")]
    pro = [line("pro", "aupro")]
    rates = _rates(category)
    roc_point, pr_point = (rates[:2], rates[1:]) if rates else (None, None)
    return [
        curve_chart("ROC", ("false positive rate", "true positive rate"), roc, diagonal=True, point=roc_point),
        curve_chart("Precision and recall", ("recall", "precision"), pr, point=pr_point),
        curve_chart("Per-region overlap, to FPR 0.3", ("false positive rate of pixels", "overlap"), pro, limit=0.3),
    ]


def _rates(category: Category) -> tuple[float, float, float] | None:
    """False positive rate, recall and precision of the decisions; None unless all three are defined."""
    counts = category.count_outcomes()
    if not counts:
        return None
    good, defects = counts["false alarm"] + counts["passed"], counts["found"] + counts["missed"]
    flagged = counts["false alarm"] + counts["found"]
    if not (good and defects and flagged):
        return None
    return counts["false alarm"] / good, counts["found"] / defects, counts["found"] / flagged
