"""Log of one phase: events of steps and epochs, the progress bar, and the curves in `training/<fit>.json`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from anoframe.models.base import Phase
from anoframe.tracking.timing import gpu_peak_memory, peak_memory
from anoframe.training.context import FitContext
from anoframe.utils.memory import gigabytes
from anoframe.utils.progress import ProgressBar


@dataclass
class EpochTotals:
    """Sums over the steps of the current epoch."""

    images: int = 0
    losses: dict[str, float] = field(default_factory=dict)  # and measurements, summed over images
    seconds: float = 0.0
    data_seconds: float = 0.0


@dataclass(frozen=True)
class StepRecord:
    """Measurements of one optimiser step.

    Attributes:
        number: steps done in the phase, this one included.
        epoch: from 1.
        images: batch size over all processes.
        losses: losses and measurements, means over the batch, by name.
        learning_rate: of this step.
        seconds: of the whole step.
        data_seconds: spent on getting features.
        optimisation_seconds: spent on the optimiser's update.
    """

    number: int
    epoch: int
    images: int
    losses: Mapping[str, float]
    learning_rate: float
    seconds: float
    data_seconds: float
    optimisation_seconds: float


class EpochLog:
    """Writes the steps and epochs of one phase to the tracker, the progress bar and the curves.

    Args:
        context: of the fit.
        curve: entry of this phase in `context.curves["phases"]`, see `new_curve`.
        num_epochs: length of the phase.
        totals: of an epoch that was interrupted.
        measurements: names in `StepRecord.losses` that are not losses.

    Attributes:
        title: name and label of the phase; unique within a fit.
    """

    def __init__(
        self,
        context: FitContext,
        curve: dict[str, Any],
        num_epochs: int,
        totals: EpochTotals | None = None,
        measurements: Collection[str] = (),
    ):
        self.title = f"{curve['name']} {curve.get('label', '')}".rstrip()
        self.totals = totals or EpochTotals()
        self._context, self._epochs, self._num_epochs = context, curve["epochs"], num_epochs
        self._measurements = measurements

    def log_step(self, step: StepRecord, bar: ProgressBar) -> None:
        """Add a step to the totals of the epoch, show it in the bar, and log it."""
        self._add(step)
        totals = self.totals
        losses = {name: f"{value:.4f}" for name, value in step.losses.items()}
        images = f"{totals.images / totals.seconds:.1f}"
        waiting = f"{totals.data_seconds:.1f} s"
        bar.advance({**losses, "images/s": images, "waiting": waiting, "lr": f"{step.learning_rate:.2e}"})
        self._context.tracker.log(
            "step",
            fit=self._context.fit,
            phase=self.title,
            epoch=step.epoch,
            step=step.number,
            **self._separate(step.losses),
            lr=step.learning_rate,
            batch_seconds=step.seconds,
            data_seconds=step.data_seconds,
            optimisation_seconds=step.optimisation_seconds,
        )

    def end_epoch(self, epoch: int, learning_rate: float) -> None:
        """Append the epoch to the curve, log it, and reset the totals."""
        totals = self.totals
        losses = {name: value / totals.images for name, value in totals.losses.items()}
        entry = {
            "epoch": epoch,
            **self._separate(losses),
            "lr": learning_rate,
            "images_per_second": totals.images / totals.seconds,
            "data_seconds": totals.data_seconds,
            "seconds": totals.seconds,
        }
        self._epochs.append(entry)
        self.totals = EpochTotals()
        summary = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        names = {"fit": self._context.fit, "phase": self.title, "epochs": self._num_epochs}
        peak, gpu_peak = peak_memory(), gpu_peak_memory()
        memory = f"{gigabytes(peak)} and {gigabytes(gpu_peak)} of the GPU" if gpu_peak else gigabytes(peak)
        self._context.tracker.log(
            "epoch", **names, **entry, summary=summary, peak_bytes=peak, gpu_peak_bytes=gpu_peak, memory=memory
        )

    def _separate(self, values: Mapping[str, float]) -> dict[str, dict[str, float]]:
        """Separate losses from measurements; without measurements there is no such key."""
        separated = {"losses": {name: value for name, value in values.items() if name not in self._measurements}}
        measurements = {name: value for name, value in values.items() if name in self._measurements}
        return separated | ({"measurements": measurements} if measurements else {})

    def _add(self, step: StepRecord) -> None:
        totals = self.totals
        totals.images += step.images
        totals.seconds += step.seconds
        totals.data_seconds += step.data_seconds
        for name, value in step.losses.items():
            totals.losses[name] = totals.losses.get(name, 0.0) + step.images * value


def new_curve(context: FitContext, phase: Phase) -> dict[str, Any]:
    """Append an entry for a phase to the curves of a fit.

    A number is added to the label if an earlier phase has the same name and label.
    """
    curves: list[dict[str, Any]] = context.curves["phases"]
    label, number = phase.label, 1
    used = [curve.get("label", "") for curve in curves if curve["name"] == phase.name]
    while label in used:
        number += 1
        label = f"{phase.label} ({number})".lstrip()
    num_parameters = sum(parameter.numel() for parameter in phase.parameters.values())
    optional = {"label": label} if label else {}
    curves.append({"name": phase.name, **optional, "parameters": num_parameters, "epochs": []})
    return curves[-1]
