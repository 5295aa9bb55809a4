"""Catalogue of metrics: name, titles, level, direction, and where a metric is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["image", "pixel", "decision", "stream", "class"]


@dataclass(frozen=True)
class Metric:
    """One metric of the results.

    Attributes:
        name: key in `metrics.json` (image and pixel metrics), column of `metrics.csv` (decision), or key in `by_metric`
            of `results/continual.json` (stream).
        title: full title for tables and charts.
        short_title: title below a heading that already names the level.
        level: what is scored: images, pixels, decisions at the threshold of the run, a stream of tasks, or predictions
            of classes.
        description: one sentence for tooltips; docs/metrics.md and docs/continual.md have the definitions.
        higher_is_better: direction.
        headline: shown in the console table and in the main tables of the report.
        summary: one of the few metrics that represent a result in one line, a tile or a chart.
        oracle: chooses its threshold on the test labels, which are not available in use.
        constant_score: value of a detector that gives every image and pixel the same score, the baseline of forward
            transfer; None: no baseline, because the value depends on the data or the metric has no forward transfer.
        every_dataset: False for a metric of datasets that need more than labels and masks, such as MVTec LOCO.
    """

    name: str
    title: str
    short_title: str
    level: Level
    description: str
    higher_is_better: bool = True
    headline: bool = False
    summary: bool = False
    oracle: bool = False
    constant_score: float | None = None
    every_dataset: bool = True


_CATALOGUE = (
    Metric(
        "image_auroc",
        "Image AUROC",
        "AUROC",
        "image",
        "area under the ROC curve of the image scores",
        headline=True,
        summary=True,
        constant_score=0.5,
    ),
    Metric("image_ap", "Image AP", "AP", "image", "average precision of the image scores", headline=True),
    Metric(
        "image_f1max",
        "Image F1-max",
        "F1-max",
        "image",
        "maximum F1 of the image scores over all thresholds",
        headline=True,
        oracle=True,
    ),
    Metric(
        "pixel_auroc",
        "Pixel AUROC",
        "AUROC",
        "pixel",
        "area under the ROC curve of the pixel scores",
        headline=True,
        summary=True,
        constant_score=0.5,
    ),
    Metric("pixel_ap", "Pixel AP", "AP", "pixel", "average precision of the pixel scores", headline=True),
    Metric(
        "pixel_f1max",
        "Pixel F1-max",
        "F1-max",
        "pixel",
        "maximum F1 of the pixel scores over all thresholds",
        headline=True,
        oracle=True,
    ),
    Metric(
        "aupro",
        "AUPRO",
        "AUPRO",
        "pixel",
        "area under the per-region overlap up to a false-positive rate of 0.3, divided by 0.3",
        headline=True,
        summary=True,
        constant_score=0.15,
    ),
    Metric(
        "iou_max",
        "IoU-max",
        "IoU-max",
        "pixel",
        "maximum IoU of the pixel scores over all thresholds",
        headline=True,
        oracle=True,
    ),
    Metric(
        "pro_per_image",
        "PRO/image",
        "PRO/image",
        "pixel",
        "per-region overlap of each anomalous image by itself, averaged over images, as RD4AD publishes it",
    ),
    Metric(
        "image_auroc_logical",
        "Image AUROC, logical",
        "Image AUROC, logical",
        "image",
        "image AUROC of the good images and the logical anomalies",
        every_dataset=False,
    ),
    Metric(
        "image_auroc_structural",
        "Image AUROC, structural",
        "Image AUROC, structural",
        "image",
        "image AUROC of the good images and the structural anomalies",
        every_dataset=False,
    ),
    Metric(
        "auspro_0.05",
        "AU-sPRO 0.05",
        "AU-sPRO 0.05",
        "pixel",
        "area under the saturated per-region overlap up to a false-positive rate of 0.05, divided by 0.05, at the size "
        "of the photographs: mean of logical and structural anomalies",
        every_dataset=False,
    ),
    Metric(
        "auspro_0.05_logical",
        "AU-sPRO 0.05, logical",
        "AU-sPRO 0.05, logical",
        "pixel",
        "AU-sPRO 0.05 of the good images and the logical anomalies",
        every_dataset=False,
    ),
    Metric(
        "auspro_0.05_structural",
        "AU-sPRO 0.05, structural",
        "AU-sPRO 0.05, structural",
        "pixel",
        "AU-sPRO 0.05 of the good images and the structural anomalies",
        every_dataset=False,
    ),
    Metric(
        "misses",
        "Missed defects",
        "Missed",
        "decision",
        "defects below the threshold of the run",
        higher_is_better=False,
    ),
    Metric(
        "miss_rate",
        "Miss rate",
        "Miss rate",
        "decision",
        "share of the defects below the threshold of the run",
        higher_is_better=False,
    ),
    Metric(
        "false_alarms",
        "False alarms",
        "False alarms",
        "decision",
        "good images at or above the threshold of the run",
        higher_is_better=False,
    ),
    Metric(
        "false_alarm_rate",
        "False-alarm rate",
        "False-alarm rate",
        "decision",
        "share of the good images at or above the threshold of the run",
        higher_is_better=False,
    ),
    Metric(
        "accuracy",
        "Accuracy",
        "Accuracy",
        "class",
        "share of the images of a class that are predicted right, out of all classes seen, each image by itself",
    ),
    Metric(
        "accuracy_mixed",
        "Accuracy, mixed batches",
        "Accuracy, mixed batches",
        "class",
        "accuracy where images of all classes seen, shuffled, are computed in batches",
    ),
    Metric(
        "accuracy_task_aware",
        "Accuracy, task known",
        "Accuracy, task known",
        "class",
        "accuracy out of the classes of the image's own task, an upper bound that no deployed classifier has",
    ),
    Metric("acc", "ACC", "ACC", "stream", "mean over the tasks seen so far"),
    Metric("acc_classes", "ACC, categories", "ACC, categories", "stream", "mean over the categories seen"),
    Metric("aia", "AIA", "AIA", "stream", "average incremental accuracy: mean of ACC after each task"),
    Metric(
        "fm",
        "FM, from best",
        "FM, from best",
        "stream",
        "forgetting: mean over tasks of the best value before the last task minus the final value",
        higher_is_better=False,
    ),
    Metric(
        "fm_diagonal",
        "FM, from diagonal",
        "FM, from diagonal",
        "stream",
        "forgetting: mean over tasks of the value right after training minus the final value",
        higher_is_better=False,
    ),
    Metric("bwt", "BWT", "BWT", "stream", "backward transfer: the negative of FM, from diagonal"),
    Metric(
        "fwt",
        "FWT",
        "FWT",
        "stream",
        "forward transfer: the value right before training on a task minus that of a constant score",
    ),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _CATALOGUE}
HEADLINE: tuple[str, ...] = tuple(metric.name for metric in _CATALOGUE if metric.headline)
SUMMARY: tuple[str, ...] = tuple(metric.name for metric in _CATALOGUE if metric.summary)
DECISIONS: tuple[str, ...] = tuple(metric.name for metric in _CATALOGUE if metric.level == "decision")
CLASS_METRICS: tuple[str, ...] = tuple(metric.name for metric in _CATALOGUE if metric.level == "class")
STREAM: tuple[str, ...] = tuple(metric.name for metric in _CATALOGUE if metric.level == "stream")


def title_of(name: str) -> str:
    """Return the title of a metric, also of that of an extra score; else the name itself (`aupro_0.05`).

    >>> title_of("pixel_auroc"), title_of("aupro_0.05"), title_of("image_auroc_text")
    ('Pixel AUROC', 'aupro_0.05', 'Image AUROC, text')
    """
    if name in METRICS:
        return METRICS[name].title
    score = name.removeprefix("image_auroc_")
    return name if score == name else f"{METRICS['image_auroc'].title}, {score}"


def names_of(level: Level, headline: bool | None = None) -> tuple[str, ...]:
    """Return the names of the metrics of a level that every dataset has, in the order of the tables.

    Args:
        level: image, pixel, decision or stream.
        headline: only headline metrics (True), only the others (False), or all (None).
    """
    common = (metric for metric in _CATALOGUE if metric.every_dataset and metric.level == level)
    return tuple(metric.name for metric in common if headline in (None, metric.headline))
