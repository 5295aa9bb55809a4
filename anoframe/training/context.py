"""Context of one fit: values that all of its training stages share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anoframe.distributed.process_group import Group, single_process
from anoframe.models.learner import Learner
from anoframe.tracking.tracker import Tracker
from anoframe.training.state import TrainingState

CategoryMetrics = Mapping[str, Mapping[str, float | None]]  # category -> metric -> value, None: not available
Evaluate = Callable[[Any], CategoryMetrics]


def empty_curves() -> dict[str, Any]:
    """Return the training curves of a fit that has not begun."""
    return {"phases": [], "looks": []}


@dataclass
class FitContext:
    """Context of one fit.

    Attributes:
        fit: name of the fit.
        seed: seed of the fit.
        section: `trainer` section of the config; None if the config has none.
        tracker: receives the events of steps, epochs and test evaluations.
        state_folder: folder of the training states. None: no state is written, so a killed fit starts again.
        evaluate: returns the per-category metrics on the test images, for `trainer.evaluate_every`. None: the test
            images are never evaluated during training.
        curves: training curves as JSON types: `phases`, one entry per phase with its epochs, and `looks`, one entry per
            evaluation on the test images.
        group: processes that train together. All of them run the same stages, each on its shard of every batch.
    """

    fit: str
    seed: int
    section: Mapping[str, Any] | None
    tracker: Tracker
    state_folder: Path | None = None
    evaluate: Evaluate | None = None
    curves: dict[str, Any] = field(default_factory=empty_curves)
    group: Group = field(default_factory=single_process)

    def save_state(self, stage: int, steps: int, learner: Learner, **rest: Any) -> None:
        """Write a training state, if this fit has a folder for states."""
        if self.state_folder:
            state = TrainingState(stage, steps, learner.learned_state(), {"curves": self.curves, **rest})
            state.save(self.state_folder)
