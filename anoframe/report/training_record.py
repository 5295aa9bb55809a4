"""Training curves of a run, read from `training/<fit>.json`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anoframe.errors import AnoframeError
from anoframe.evaluation.results import Metrics
from anoframe.report.checked_reading import naming_file, path_inside, read_object
from anoframe.report.number_checks import finite, read_metrics


@dataclass(frozen=True)
class Epoch:
    """One epoch of a training stage.

    Attributes:
        number: from 1.
        losses: mean of each loss over the images of the epoch.
        measurements: means of values that were reported and not trained on.
        lr: learning rate at its end.
        seconds: duration.
        data_seconds: time spent waiting for data.
    """

    number: int
    losses: Mapping[str, float]
    lr: float
    images_per_second: float
    seconds: float
    data_seconds: float
    measurements: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TestEvaluation:
    """Metrics on the test images, measured during training.

    Attributes:
        phase: title of the training stage.
        epoch: its epoch, from 1.
        metrics: category -> metrics.
    """

    __test__ = False  # not a test class of pytest

    phase: str
    epoch: int
    metrics: Mapping[str, Metrics]


@dataclass
class TrainingCurves:
    """Training curves of one fit, or in `remark` why there are none.

    Attributes:
        fit: name of the fit.
        phases: (title, epochs) of each training stage.
        evaluations: evaluations on the test set during training.
    """

    fit: str
    phases: list[tuple[str, list[Epoch]]] = field(default_factory=list)
    evaluations: list[TestEvaluation] = field(default_factory=list)
    remark: str = ""


def read_training(folder: Path, trained: bool) -> Iterator[TrainingCurves]:
    """Yield the curves of each fit. No result depends on them, so a damaged or missing file is a remark, no error."""
    written = {path.stem for path in (folder / "training").glob("*.json") if path.is_file()}
    fitted = {path.parent.name for path in (folder / "checkpoint").glob("*/detector.json")} if trained else set()
    for fit in sorted(written | fitted):
        try:
            yield _training_curves(folder, fit)
        except AnoframeError as error:
            yield TrainingCurves(fit, remark=str(error).replace(f"{folder}/", ""))  # no absolute paths in a report


def _training_curves(folder: Path, fit: str) -> TrainingCurves:
    path = path_inside(folder / "training", f"{fit}.json", "fit")
    tree = read_object(path)
    if not tree:
        return TrainingCurves(fit, remark=f"the run folder has no training/{fit}.json")
    with naming_file(path):
        phases = [(_phase_title(phase), _epochs(phase["epochs"])) for phase in tree["phases"]]
        return TrainingCurves(fit, phases, [_test_evaluation(row) for row in tree.get("looks") or []])


def _phase_title(phase: Mapping[str, Any]) -> str:
    """The title by which evaluations name their stage as well."""
    return f"{phase['name']} {phase.get('label', '')}".rstrip()


def _epochs(rows: Iterable[Mapping[str, Any]]) -> list[Epoch]:
    epochs = [_epoch(row) for row in rows]
    numbers = [epoch.number for epoch in epochs]
    if numbers != sorted(set(numbers)):
        raise ValueError(f"the epochs of a stage are not in order: {numbers}")
    return epochs


def _epoch(row: Mapping[str, Any]) -> Epoch:
    values = {name: finite(row[name]) for name in ("lr", "images_per_second", "seconds", "data_seconds")}
    if min(values.values()) < 0:
        raise ValueError(f"an epoch has {min(values, key=lambda name: values[name])} below 0")
    losses = {str(name): finite(value) for name, value in row["losses"].items()}
    measurements = {str(name): finite(value) for name, value in row.get("measurements", {}).items()}
    return Epoch(_epoch_number(row), losses, **values, measurements=measurements)


def _test_evaluation(row: Mapping[str, Any]) -> TestEvaluation:
    metrics = {str(category): read_metrics(values) for category, values in row["metrics"].items()}
    if not all(0 <= value <= 1 for values in metrics.values() for value in values.values() if value is not None):
        raise ValueError("a metric on the test set is outside [0, 1]")
    return TestEvaluation(str(row["phase"]), _epoch_number(row), metrics)


def _epoch_number(row: Mapping[str, Any]) -> int:
    number = row["epoch"]
    if type(number) is not int or number < 1:
        raise ValueError(f"epoch is {number!r}, expected a whole number from 1")
    return number
