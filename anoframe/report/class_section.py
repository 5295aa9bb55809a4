"""Section of a classifier of images: confusion matrix, novelty, calibration, and exemplars."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from anoframe.errors import AnoframeError
from anoframe.evaluation.results import fixed, percent
from anoframe.metrics.catalogue import METRICS
from anoframe.report.charts import Line, Series, curve_chart, series_chart
from anoframe.report.class_record import ClassRecord, ExemplarStrip
from anoframe.report.method_section import DEEPEST
from anoframe.report.stream_record import Stream

MOST_CLASSES = 40  # in the confusion matrix; with more, it shows tasks
_CONFIDENCES = {"energy": "energy", "max_softmax": "largest probability", "variance": "variance over samples"}
_NOVELTY = (("auroc", METRICS["image_auroc"].short_title), ("aupr", "AUPR"), ("fpr95", "FPR95, lower is better"))


@dataclass(frozen=True)
class ConfusionCell:
    """Share of the images of a row, in percent, with their number; `depth` is percent of the strongest shade."""

    text: str
    tooltip: str
    depth: str


@dataclass(frozen=True)
class StripView:
    """Exemplars of a class; `source` is a `data:` address."""

    name: str
    source: str
    note: str


@dataclass(frozen=True)
class ClassView:
    """Values of `classes.html`.

    Attributes:
        facts: (name, value) after the last task.
        heads: of the confusion matrix: names of classes, or numbers of tasks.
        is_by_task: whether the confusion matrix is of tasks.
        confusion: (head, cells) of each row.
        charts: over tasks, and the reliability diagram.
        novelty: head, and rows of the table after each task.
        exemplars: pictures.
    """

    facts: list[tuple[str, str]]
    heads: list[str]
    is_by_task: bool
    confusion: list[tuple[str, list[ConfusionCell]]]
    charts: list[Markup]
    novelty: list[list[str]]
    exemplars: list[StripView]


def class_view(record: ClassRecord | None, stream: Stream | None) -> ClassView | None:
    """Prepare the section; None for a run without a classifier."""
    if record is None or stream is None:
        return None
    heads, counts = record.classes, record.confusion
    is_by_task = len(heads) > MOST_CLASSES
    if is_by_task:
        heads, counts = _by_task(record, stream)
    return ClassView(
        facts=_facts(record),
        heads=heads,
        is_by_task=is_by_task,
        confusion=[(head, _cells(row)) for head, row in zip(heads, counts, strict=True)],
        charts=[chart for chart in _charts(record, stream) if chart],
        novelty=_novelty_rows(record),
        exemplars=[_strip(strip) for strip in record.strips],
    )


def _facts(record: ClassRecord) -> list[tuple[str, str]]:
    facts = [("top-1, each image by itself", percent(record.top1[-1]))] if record.top1 else []
    if record.top1_mixed and record.top1_mixed[-1] is not None:
        mixed, alone = record.top1_mixed[-1], record.top1[-1]
        difference = None if mixed is None or alone is None else mixed - alone
        sign = "+" if difference is not None and difference > 0 else ""
        facts.append(("top-1, shuffled batches of all seen classes", f"{percent(mixed)} ({sign}{percent(difference)})"))
    if record.ece:
        facts.append(("expected calibration error", percent(record.ece[-1])))
    if record.exemplar_images:
        facts.append(("exemplars", f"{record.exemplar_images[-1]:,} images, {record.exemplar_bytes[-1]:,} bytes"))
    return facts


# ------------------------------------------------------------------------------------------------ confusion


def _by_task(record: ClassRecord, stream: Stream) -> tuple[list[str], list[list[int]]]:
    """Add up a confusion matrix over the classes of each task."""
    task_of = {name: number for number, task in enumerate(stream.tasks) for name in task}
    tasks = [task_of[name] for name in record.classes]
    count = max(tasks) + 1
    sums = [[0] * count for _ in range(count)]
    for true, row in zip(tasks, record.confusion, strict=True):
        for predicted, images in zip(tasks, row, strict=True):
            sums[true][predicted] += images
    return [f"task {number}" for number in range(count)], sums


def _cells(row: Sequence[int]) -> list[ConfusionCell]:
    total = sum(row) or 1
    return [
        ConfusionCell(
            fixed(100 * images / total, 0), f"{images} of {sum(row)} images", f"{DEEPEST * images / total:.1f}"
        )
        for images in row
    ]


# ------------------------------------------------------------------------------------------------ charts and tables


def _charts(record: ClassRecord, stream: Stream) -> list[Markup]:
    charts = [_reliability(record)]
    after = [stream.num_trained(row) - 1 for row in range(len(record.novelty))]
    if len(after) > 1:
        for key, title in _NOVELTY[::2]:
            lines = [Series(label, _points(record, after, name, key)) for name, label in _CONFIDENCES.items()]
            charts.append(series_chart(f"Novel classes, {title}", lines, shares=True, x_label="task"))
        points = [(task, value) for task, value in zip(after, record.ece, strict=True) if value is not None]
        charts.append(series_chart("Expected calibration error", [Series("ECE", points)], shares=True, x_label="task"))
    return charts


def _points(record: ClassRecord, after: Sequence[int], name: str, key: str) -> list[tuple[float, float]]:
    values = [(row or {}).get(name, {}).get(key) for row in record.novelty]
    return [(task, value) for task, value in zip(after, values, strict=True) if value is not None]


def _reliability(record: ClassRecord) -> Markup:
    points = sorted(record.reliability, key=lambda point: point.confidence)
    curve = {"x": [point.confidence for point in points], "y": [point.accuracy for point in points]}
    lines = [Line("accuracy of a bin; ECE", "image", curve, percent(record.ece[-1]))] if points else []
    return curve_chart("Reliability, after the last task", ("confidence", "accuracy"), lines, diagonal=True)


def _novelty_rows(record: ClassRecord) -> list[list[str]]:
    """Rows of the table: after, confidence, and one cell per metric."""
    rows = []
    for task, values in enumerate(record.novelty):
        for name, metrics in (values or {}).items():
            cells = [percent(metrics.get(key)) for key, _ in _NOVELTY]
            rows.append([str(task), _CONFIDENCES.get(name, name), *cells])
    return rows


def _strip(strip: ExemplarStrip) -> StripView:
    try:
        data = strip.path.read_bytes()
    except OSError as error:
        raise AnoframeError(f"{strip.path} cannot be read ({error.strerror}): restore it, or run again") from error
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return StripView(strip.name, source, f"{strip.shown} of {strip.images}")
