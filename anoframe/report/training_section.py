"""Section on training: losses over epochs, and evaluations on the test set during training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean, median

from markupsafe import Markup

from anoframe.metrics.catalogue import SUMMARY, title_of
from anoframe.report.charts import Series, number, series_chart
from anoframe.report.training_record import Epoch, TestEvaluation, TrainingCurves


@dataclass(frozen=True)
class PhaseView:
    """Cost of a training stage.

    Attributes:
        waiting: time spent waiting for data, in percent.
        learning_rates: of the first and the last epoch; a single one if they are equal.
    """

    name: str
    epochs: int
    images_per_second: str
    waiting: str
    learning_rates: list[str]


@dataclass(frozen=True)
class FitView:
    """Training of one fit, or in `remark` why there are no curves."""

    fit: str
    remark: str
    phases: list[PhaseView] = field(default_factory=list)
    charts: list[Markup] = field(default_factory=list)
    has_evaluations: bool = False


def training_view(training: Sequence[TrainingCurves]) -> list[FitView]:
    """Prepare the training of each fit; empty if nothing was trained by gradient descent."""
    return [_fit(curves) for curves in training]


def _fit(curves: TrainingCurves) -> FitView:
    if curves.remark:
        return FitView(curves.fit, curves.remark)
    phases = [(name, epochs) for name, epochs in curves.phases if epochs]
    charts = [
        chart
        for name, epochs in phases
        for chart in (
            _loss_chart(name, epochs),
            _measurement_chart(name, epochs),
            _evaluation_chart(name, curves.evaluations),
        )
        if chart
    ]
    return FitView(curves.fit, "", [_phase(*phase) for phase in phases], charts, bool(curves.evaluations))


def _phase(name: str, epochs: Sequence[Epoch]) -> PhaseView:
    seconds = sum(epoch.seconds for epoch in epochs)
    waiting = 100 * sum(epoch.data_seconds for epoch in epochs) / seconds if seconds else 0.0
    return PhaseView(
        name=name,
        epochs=len(epochs),
        images_per_second=number(median(epoch.images_per_second for epoch in epochs)),
        waiting=f"{waiting:.0f}",
        learning_rates=list(dict.fromkeys(number(epoch.lr) for epoch in (epochs[0], epochs[-1]))),
    )


def _loss_chart(name: str, epochs: Sequence[Epoch]) -> Markup:
    losses = dict.fromkeys(loss for epoch in epochs for loss in epoch.losses)
    series = [Series(loss, [(e.number, e.losses[loss]) for e in epochs if loss in e.losses]) for loss in losses]
    rates: dict[float, str] = {epoch.number: f"learning rate {number(epoch.lr)}" for epoch in epochs}
    return series_chart(f"{name}: loss", series, notes=rates)


def _measurement_chart(name: str, epochs: Sequence[Epoch]) -> Markup:
    """Chart of what was measured on the training batches; an empty string if nothing was."""
    names = dict.fromkeys(measured for epoch in epochs for measured in epoch.measurements)
    series = [
        Series(measured, [(e.number, e.measurements[measured]) for e in epochs if measured in e.measurements])
        for measured in names
    ]
    return series_chart(f"{name}: measured on the training batches", series)


def _evaluation_chart(name: str, evaluations: Sequence[TestEvaluation]) -> Markup:
    """Chart of the metrics on the test set; an empty string if this stage was not evaluated."""
    own = sorted((item for item in evaluations if item.phase == name), key=lambda item: item.epoch)
    categories = {category for item in own for category in item.metrics}
    series = [Series(title_of(metric), _over_epochs(own, metric)) for metric in SUMMARY]
    suffix = f", mean of {len(categories)}" if len(categories) > 1 else ""
    return series_chart(f"{name}: on the test set{suffix}", series, shares=True)


def _over_epochs(evaluations: Sequence[TestEvaluation], metric: str) -> list[tuple[float, float]]:
    """Points (epoch, mean over the categories that have the metric)."""
    points: list[tuple[float, float]] = []
    for item in evaluations:
        values = [value for metrics in item.metrics.values() if (value := metrics.get(metric)) is not None]
        if values:
            points.append((item.epoch, mean(values)))
    return points
