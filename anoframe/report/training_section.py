"""How each detector of a run was trained: losses over epochs, and what looks at the test images gave."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from statistics import mean, median

from anoframe.report.charts import Series, epoch_chart, number
from anoframe.report.run_record import Epoch, FitCurves, Look, RunRecord

_LOOKED = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO"}
_CHOSE_NOTHING = "These looks were on the test set, and chose nothing: the last epoch is what is reported."
_CHOSE = "These looks were on the test set, and the epoch that is reported was chosen by them."


def training_section(run: RunRecord) -> str:
    """A part for each fit; empty where nothing was trained by gradients."""
    if not run.training:
        return ""
    parts = "".join(_fit(curves, run.chosen_on_test) for curves in run.training)
    return f'<section id="training"><h2>Training <a class="top" href="#verdict">to the table</a></h2>{parts}</section>'


def _fit(curves: FitCurves, chosen: bool) -> str:
    head = f"<h3>{escape(curves.fit)}</h3>"
    if curves.remark:
        return f'{head}<p class="note">No curves of training: {escape(curves.remark)}</p>'
    phases = [(name, epochs) for name, epochs in curves.phases if epochs]
    lines = "".join(f'<p class="summary">{_summary(name, epochs)}</p>' for name, epochs in phases)
    charts = "".join(_losses(name, epochs) + _looks(name, curves.looks) for name, epochs in phases)
    note = f'<p class="note">{_CHOSE if chosen else _CHOSE_NOTHING}</p>' if curves.looks else ""
    return f'{head}{lines}<div class="curves training">{charts}</div>{note}'


def _summary(name: str, epochs: Sequence[Epoch]) -> str:
    """What a phase took, in a line."""
    speed = number(median(epoch.images_per_second for epoch in epochs))
    seconds = sum(epoch.seconds for epoch in epochs)
    waited = 100 * sum(epoch.data_seconds for epoch in epochs) / seconds if seconds else 0.0
    facts = [
        f"{escape(name)}: <b>{len(epochs)}</b> {'epoch' if len(epochs) == 1 else 'epochs'}",
        f"<b>{speed}</b> images per second (median)",
        f"<b>{waited:.0f} %</b> of the time waiting for data",
        f"learning rate {' to '.join(dict.fromkeys(number(epoch.lr) for epoch in (epochs[0], epochs[-1])))}",
    ]
    return " · ".join(facts)


def _losses(name: str, epochs: Sequence[Epoch]) -> str:
    labels = dict.fromkeys(label for epoch in epochs for label in epoch.losses)
    series = [Series(label, [(e.number, e.losses[label]) for e in epochs if label in e.losses]) for label in labels]
    rates = {epoch.number: f"learning rate {number(epoch.lr)}" for epoch in epochs}
    return epoch_chart(f"{name}: loss", series, notes=rates)


def _looks(name: str, looks: Sequence[Look]) -> str:
    own = sorted((look for look in looks if look.phase == name), key=lambda look: look.epoch)
    categories = {category for look in own for category in look.metrics}
    series = [Series(label, _over_epochs(own, metric)) for metric, label in _LOOKED.items()]
    of = f", mean of {len(categories)}" if len(categories) > 1 else ""
    return epoch_chart(f"{name}: on the test set{of}", series, shares=True)


def _over_epochs(looks: Sequence[Look], metric: str) -> list[tuple[int, float]]:
    """The mean over the categories that have the metric."""
    found = []
    for look in looks:
        values = [value for metrics in look.metrics.values() if (value := metrics.get(metric)) is not None]
        if values:
            found.append((look.epoch, mean(values)))
    return found
