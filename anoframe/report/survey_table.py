"""Tables of a survey of encoders: an overview of encoder x evaluation, and one table per evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import mean
from typing import Literal

from anoframe.metrics.bootstrap import DRAWS, LEVEL
from anoframe.metrics.catalogue import SUMMARY, title_of
from anoframe.report.grid_table import MEAN, Failure, Figure, resample_seeds

Kind = Literal["classification", "detection"]
CLASSIFICATION_METRICS = {"top1": "Top-1", "top5": "Top-5"}  # name -> title
NOTE = (
    "Percent; higher is better. Mean ± sample standard deviation over seeds; the highest mean of a column is bold"
    " if no encoder lacks it. A seed draws the encoder where it is random or trained here, and what the "
    "evaluation draws: the linear layer of the probe, the channels of PaDiM, the coreset of PatchCore. So "
    "encoders with fixed weights vary less. A detector's figure is the mean over the categories."
)
NOTE_ON_INTERVALS = (
    f"Intervals are {100 * LEVEL:.0f} % percentile bootstraps over the seeds ({DRAWS} draws): with few seeds hardly "
    "more than their range, narrower than they should be."
)
FACTS = {"architecture": "architecture", "method": "training", "epochs": "epochs", "images": "images", "size": "pixels"}


@dataclass(frozen=True)
class Value:
    """One measured value.

    Attributes:
        encoder, evaluation: names.
        category: of the dataset of a detector, or the probe of a classification.
        metric: name.
        seed: of the encoder and the evaluation.
        value: in [0, 1].
    """

    encoder: str
    evaluation: str
    category: str
    metric: str
    seed: int
    value: float


@dataclass(frozen=True)
class EncoderRow:
    """An encoder.

    Attributes:
        name: of the encoder.
        facts: key of `FACTS` -> text.
        note: why it has no figures; empty for others.
    """

    name: str
    facts: Mapping[str, str]
    note: str = ""


@dataclass(frozen=True)
class SurveyRow:
    """Figures of one encoder on one category or probe, or the mean over the categories."""

    encoder: str
    label: str
    figures: Mapping[str, Figure]


@dataclass(frozen=True)
class SurveySection:
    """One evaluation.

    Attributes:
        name: of the evaluation.
        kind: classification or detection.
        metrics: that are shown.
        labels: categories or probes; of several categories the last is the mean.
        rows: for each label all encoders, also those without figures.
    """

    name: str
    kind: Kind
    metrics: tuple[str, ...]
    labels: tuple[str, ...]
    rows: Sequence[SurveyRow]

    def best(self, label: str, metric: str) -> float | None:
        """Return the highest mean of a label; None if no two encoders differ, or a result of an encoder is missing.

        Encoders that have no result of this evaluation at all do not count.
        """
        evaluated = {row.encoder for row in self.rows if row.figures}
        figures = [row.figures.get(metric) for row in self.rows if row.label == label and row.encoder in evaluated]
        means = [figure.mean for figure in figures if figure is not None]
        is_complete = means and len(means) == len(figures)
        return max(means) if is_complete and min(means) < max(means) else None


@dataclass(frozen=True)
class Column:
    """A column of the overview."""

    section: SurveySection
    label: str
    metric: str

    @property
    def title(self) -> str:
        """Evaluation, probe or category, and metric."""
        label = "" if self.label == MEAN else f" {self.label}"
        return f"{self.section.name}{label}, {metric_title(self.metric)}"

    def figure(self, encoder: str) -> Figure | None:
        """Return the figure of an encoder; None if it has none."""
        for row in self.section.rows:
            if (row.encoder, row.label) == (encoder, self.label):
                return row.figures.get(self.metric)
        return None

    def is_best(self, encoder: str) -> bool:
        """Whether no encoder is better, and some encoder is worse."""
        figure = self.figure(encoder)
        return figure is not None and figure.mean == self.section.best(self.label, self.metric)


@dataclass(frozen=True)
class SurveyTable:
    """Content of the files of a survey.

    Attributes:
        encoders: rows of the overview.
        sections: evaluations.
        seeds: of the survey.
        failures: cells without a result.
        refusals: why some runs are not comparable.
    """

    encoders: Sequence[EncoderRow]
    sections: Sequence[SurveySection]
    seeds: tuple[int, ...]
    failures: list[Failure] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    @cached_property
    def columns(self) -> list[Column]:
        """Top-1 of every probe, and the mean of every detector over the categories."""
        columns = []
        for section in self.sections:
            labels = section.labels if section.kind == "classification" else section.labels[-1:]
            metrics = section.metrics[:1] if section.kind == "classification" else section.metrics
            columns += [Column(section, label, metric) for label in labels for metric in metrics]
        return columns


def build_survey(
    encoders: Sequence[EncoderRow],
    evaluations: Mapping[str, Kind],
    values: Sequence[Value],
    seeds: Sequence[int],
    failures: Sequence[Failure] = (),
    refusals: Sequence[str] = (),
) -> SurveyTable:
    """Build the tables.

    Args:
        encoders: rows, in their order.
        evaluations: name -> kind, in their order.
        values: of all runs.
        seeds: of the survey.
        failures, refusals: see `SurveyTable`.
    """
    sections = [_section(name, kind, encoders, values) for name, kind in evaluations.items()]
    return SurveyTable(encoders, sections, tuple(seeds), list(failures), list(refusals))


def metric_title(metric: str) -> str:
    """Title of a metric of either kind."""
    return CLASSIFICATION_METRICS.get(metric) or title_of(metric)


def missing_seeds(figure: Figure, seeds: Sequence[int]) -> str:
    """Say how many seeds a figure lacks; empty if it has all."""
    return f"{len(figure.values)} of {len(seeds)} seeds" if len(figure.values) < len(seeds) else ""


def _section(name: str, kind: Kind, encoders: Sequence[EncoderRow], values: Sequence[Value]) -> SurveySection:
    own = [value for value in values if value.evaluation == name]
    labels = tuple(dict.fromkeys(value.category for value in own))
    shown = CLASSIFICATION_METRICS if kind == "classification" else SUMMARY
    metrics = tuple(metric for metric in shown if any(value.metric == metric for value in own))
    rows = [SurveyRow(row.name, label, _figures(own, row.name, label, metrics)) for label in labels for row in encoders]
    if kind == "detection" and len(labels) > 1:
        rows += [SurveyRow(row.name, MEAN, _mean_figures(own, row.name, labels, metrics)) for row in encoders]
        labels = (*labels, MEAN)
    return SurveySection(name, kind, metrics, labels, rows)


def _figures(values: Sequence[Value], encoder: str, label: str, metrics: Sequence[str]) -> dict[str, Figure]:
    figures = {}
    for metric in metrics:
        own = {
            value.seed: value.value
            for value in values
            if (value.encoder, value.category, value.metric) == (encoder, label, metric)
        }
        if own:
            figures[metric] = resample_seeds(dict(sorted(own.items())))
    return figures


def _mean_figures(
    values: Sequence[Value], encoder: str, labels: Sequence[str], metrics: Sequence[str]
) -> dict[str, Figure]:
    """Mean over all categories, of the seeds that have all of them."""
    figures = {}
    for metric in metrics:
        each = [_figures(values, encoder, label, [metric]).get(metric) for label in labels]
        complete = [figure for figure in each if figure is not None]
        if len(complete) < len(labels):
            continue
        seeds = [seed for seed in complete[0].values if all(seed in figure.values for figure in complete)]
        if seeds:
            means = {seed: mean(figure.values[seed] for figure in complete) for seed in seeds}
            figures[metric] = resample_seeds(means, tuple(labels))
    return figures
