"""Validated settings of the `trainer` section of a config, with the changes of `trainer.phases` for each phase."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from anoframe.errors import AnoframeError, suggest
from anoframe.metrics.catalogue import SUMMARY, names_of
from anoframe.registry import check_arguments

SCHEDULES = ("constant", "step", "cosine", "warmup_cosine")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SELECTIONS = ("last", "best_on_test")
SUMMARY_METRICS = "summary"  # value of `select_metric`
SELECT_METRICS = (SUMMARY_METRICS, *names_of("image"), *names_of("pixel"))


@dataclass(frozen=True)
class Schedule:
    """Learning rate schedule; configs/__base__/gradient.py explains each value."""

    name: str = "constant"
    warmup_epochs: float = 0.0
    warmup_steps: int | None = None
    decay_epochs: float = 1.0
    decay_rate: float = 0.1
    final_lr: float = 0.0
    warmup_share: float = 0.0  # of `warmup_cosine`, see anoframe/training/warmup_cosine.py
    final_share: float = 0.001

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise AnoframeError(f"unknown trainer.schedule.name {self.name!r}: {suggest(self.name, SCHEDULES)}")
        for key in ("warmup_epochs", "warmup_steps"):
            value = getattr(self, key)
            if (value or 0) < 0:
                raise AnoframeError(f"trainer.schedule.{key} must be 0 or more, got {value}")
        if not 0 <= self.final_lr < math.inf:
            raise AnoframeError(f"trainer.schedule.final_lr must be 0 or more, got {self.final_lr}")
        if not 0 <= self.warmup_share < 1:
            raise AnoframeError(
                f"trainer.schedule.warmup_share must be at least 0 and below 1, got {self.warmup_share}"
            )
        if not 0 <= self.final_share <= 1:
            raise AnoframeError(f"trainer.schedule.final_share must be between 0 and 1, got {self.final_share}")
        for key in ("decay_epochs", "decay_rate"):
            value = getattr(self, key)
            if not value > 0:
                raise AnoframeError(f"trainer.schedule.{key} must be above 0, got {value}")


@dataclass(frozen=True)
class TrainingSettings:
    """Training settings of a phase; configs/__base__/gradient.py explains each value."""

    optimizer: dict[str, Any]
    epochs: int
    steps: int | None = None
    least_steps: int = 0
    batch_size: int = 16
    accumulate: int = 1
    clip: float = 0.0
    schedule: Schedule = field(default_factory=Schedule)
    precision: str = "float32"
    compile: bool = False
    channels_last: bool = False
    sync_batchnorm: bool = True
    evaluate_every: int = 0
    select: str = "last"
    select_metric: str = SUMMARY_METRICS
    save_minutes: float = 10.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise AnoframeError(f"trainer.{name} must be 1 or more, got {getattr(self, name)}")
        if self.steps is not None and self.steps < 1:
            raise AnoframeError(
                f"trainer.steps must be 1 or more, or None to train for trainer.epochs, got {self.steps}"
            )
        for name in ("least_steps", "clip", "evaluate_every", "save_minutes"):
            if not 0 <= getattr(self, name) < math.inf:
                raise AnoframeError(f"trainer.{name} must be 0 or more, got {getattr(self, name)}")
        if self.precision not in PRECISIONS:
            raise AnoframeError(f"unknown trainer.precision {self.precision!r}: {suggest(self.precision, PRECISIONS)}")
        if self.select not in SELECTIONS:
            raise AnoframeError(f"unknown trainer.select {self.select!r}: {suggest(self.select, SELECTIONS)}")
        if self.select_metric not in SELECT_METRICS:
            raise AnoframeError(
                f"unknown trainer.select_metric {self.select_metric!r}: {suggest(self.select_metric, SELECT_METRICS)}"
            )
        if self.select == "best_on_test" and not self.evaluate_every:
            raise AnoframeError(
                "trainer.select best_on_test requires trainer.evaluate_every above 0, got 0: --trainer.evaluate_every N"
            )

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the forward pass."""
        return PRECISIONS[self.precision]

    @property
    def selection_metrics(self) -> tuple[str, ...]:
        """Metrics whose mean over the categories chooses the epoch."""
        return SUMMARY if self.select_metric == SUMMARY_METRICS else (self.select_metric,)

    def num_steps(self, images: int) -> tuple[int, int]:
        """Optimiser steps per epoch of `images` training images, and in total."""
        per_epoch = math.ceil(images / self.batch_size)
        return per_epoch, self.steps or max(self.epochs * per_epoch, self.least_steps)

    def warmup_steps(self, steps_per_epoch: int) -> int:
        """Steps over which the learning rate rises at the start."""
        steps = self.schedule.warmup_steps
        return round(self.schedule.warmup_epochs * steps_per_epoch) if steps is None else steps

    def decay_steps(self, num_steps: int) -> int:
        """Steps between two decays of a `step` schedule: the same share of all steps as `decay_epochs` of `epochs`."""
        return max(1, round(self.schedule.decay_epochs * num_steps / self.epochs))


def phase_settings(section: Mapping[str, Any] | None, phase: str) -> TrainingSettings:
    """Settings of a phase: the `trainer` section with the changes of `trainer.phases` for it.

    Args:
        section: `trainer` section of the config; None if the config has none.
        phase: name of the phase.

    Raises:
        AnoframeError: no section, an unknown key, or a value out of its range.
    """
    if section is None:
        raise AnoframeError(
            "this method is trained by gradient descent, and its config has no trainer section: inherit "
            "__base__/gradient.py"
        )
    changes = section.get("phases", {}).get(phase, {})
    merged = {key: value for key, value in section.items() if key != "phases"}
    for key, value in changes.items():
        is_nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = {**merged[key], **value} if is_nested else value
    schedule_section = merged.pop("schedule", {})
    check_arguments(Schedule, schedule_section, "trainer.schedule")
    check_arguments(TrainingSettings, merged, "trainer")
    settings = TrainingSettings(**merged)  # first: wrong epochs would also give a wrong schedule
    schedule = Schedule(**schedule_section)
    if "epochs" in changes and "decay_epochs" not in changes.get("schedule", {}):  # keep the decay's share of the phase
        decay_epochs = schedule.decay_epochs * settings.epochs / max(1, section["epochs"])
        schedule = replace(schedule, decay_epochs=decay_epochs)
    return replace(settings, schedule=schedule)
