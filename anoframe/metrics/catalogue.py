"""Catalogue of metrics: name, title, level, direction, and whether a metric is a headline metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["image", "pixel", "stream"]


@dataclass(frozen=True)
class Metric:
    """One metric of the results.

    Attributes:
        name: key in `metrics.json` (image and pixel metrics) or in `by_metric` of `results/continual.json` (stream).
        title: full title for tables and charts.
        short_title: title below a heading that already names the level.
        level: what is scored: images, pixels, or a stream of tasks.
        higher_is_better: direction.
        headline: shown in the console table and in the main tables of the report.
        summary: one of the few metrics that stand for a result in one line, a tile or a chart.
        oracle: takes its threshold from the test labels, which no user can do.
        constant_score: value of a detector that gives every image and pixel the same score; None where not defined.
        description: one sentence for tooltips; docs/metrics.md and docs/continual.md have the definitions.
    """

    name: str
    title: str
    short_title: str
    level: Level
    higher_is_better: bool = True
    headline: bool = False
    summary: bool = False
    oracle: bool = False
    constant_score: float | None = None
    description: str = ""


_ALL = (
    Metric("image_auroc", "Image AUROC", "AUROC", "image", headline=True, summary=True, constant_score=0.5),
    Metric("image_ap", "Image AP", "AP", "image", headline=True),
    Metric("image_f1max", "Image F1-max", "F1-max", "image", headline=True, oracle=True),
    Metric("pixel_auroc", "Pixel AUROC", "AUROC", "pixel", headline=True, summary=True, constant_score=0.5),
    Metric("pixel_ap", "Pixel AP", "AP", "pixel", headline=True),
    Metric("pixel_f1max", "Pixel F1-max", "F1-max", "pixel", headline=True, oracle=True),
    Metric("aupro", "AUPRO", "AUPRO", "pixel", headline=True, summary=True, constant_score=0.15),
    Metric("iou_max", "IoU-max", "IoU-max", "pixel", headline=True, oracle=True),
    Metric("pro_per_image", "PRO/image", "PRO/image", "pixel"),
    Metric("acc", "ACC", "ACC", "stream", description="mean over the tasks seen so far"),
    Metric("acc_classes", "ACC, categories", "ACC, categories", "stream", description="mean over the categories seen"),
    Metric("aia", "AIA", "AIA", "stream", description="average incremental accuracy: mean of ACC after each task"),
    Metric(
        "fm",
        "FM, from best",
        "FM, from best",
        "stream",
        higher_is_better=False,
        description="forgetting: mean over tasks of the best value before the last task minus the final value",
    ),
    Metric(
        "fm_diagonal",
        "FM, from diagonal",
        "FM, from diagonal",
        "stream",
        higher_is_better=False,
        description="forgetting: mean over tasks of the value right after training minus the final value",
    ),
    Metric("bwt", "BWT", "BWT", "stream", description="backward transfer: the negative of FM, from diagonal"),
    Metric(
        "fwt",
        "FWT",
        "FWT",
        "stream",
        description="forward transfer: the value right before training on a task minus that of a constant score",
    ),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
HEADLINE: tuple[str, ...] = tuple(metric.name for metric in _ALL if metric.headline)
SUMMARY: tuple[str, ...] = tuple(metric.name for metric in _ALL if metric.summary)
STREAM: tuple[str, ...] = tuple(metric.name for metric in _ALL if metric.level == "stream")


def title_of(name: str) -> str:
    """Title of a metric; the name itself for one that is not in the catalogue (`aupro_0.05`).

    >>> title_of("pixel_auroc"), title_of("aupro_0.05")
    ('Pixel AUROC', 'aupro_0.05')
    """
    return METRICS[name].title if name in METRICS else name


def names_of(level: Level, headline: bool | None = None) -> tuple[str, ...]:
    """Names of the metrics of a level, in the order of the tables (`headline` selects)."""
    return tuple(m.name for m in _ALL if m.level == level and headline in (None, m.headline))
