"""The `trainer` section of a config, checked, and as a phase has it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from anoframe.errors import AnoframeError, suggest
from anoframe.registry import check_arguments

SCHEDULES = ("constant", "step", "cosine")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SELECTIONS = ("last", "best_on_test")


@dataclass(frozen=True)
class Schedule:
    """Of the learning rate; see configs/__base__/gradient.py."""

    name: str = "constant"
    warmup_epochs: float = 0.0
    warmup_steps: int | None = None
    decay_epochs: float = 1.0
    decay_rate: float = 0.1
    final_lr: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise AnoframeError(f"unknown trainer.schedule.name {self.name!r}: {suggest(self.name, SCHEDULES)}")
        if self.warmup_epochs < 0 or (self.warmup_steps or 0) < 0:
            raise AnoframeError("trainer.schedule: a warm-up is 0 epochs or steps, or more")
        if not 0 <= self.final_lr < math.inf:
            raise AnoframeError(f"trainer.schedule.final_lr is 0 or more, got {self.final_lr}")
        if not self.decay_epochs > 0 or not self.decay_rate > 0:
            raise AnoframeError(
                f"trainer.schedule wants decay_epochs and decay_rate above 0, got {self.decay_epochs} and "
                f"{self.decay_rate}"
            )


@dataclass(frozen=True)
class Settings:
    """What a phase is trained with; see configs/__base__/gradient.py for each."""

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
    save_minutes: float = 10.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise AnoframeError(f"trainer.{name} is 1 or more, got {getattr(self, name)}")
        if self.steps is not None and self.steps < 1:
            raise AnoframeError(f"trainer.steps is 1 or more, or None for trainer.epochs, got {self.steps}")
        for name in ("least_steps", "clip", "evaluate_every", "save_minutes"):
            if not 0 <= getattr(self, name) < math.inf:
                raise AnoframeError(f"trainer.{name} is 0 or more, got {getattr(self, name)}")
        if self.precision not in PRECISIONS:
            raise AnoframeError(f"unknown trainer.precision {self.precision!r}: {suggest(self.precision, PRECISIONS)}")
        if self.select not in SELECTIONS:
            raise AnoframeError(f"unknown trainer.select {self.select!r}: {suggest(self.select, SELECTIONS)}")
        if self.select == "best_on_test" and not self.evaluate_every:
            raise AnoframeError("trainer.select best_on_test needs looks to choose from: --trainer.evaluate_every N")

    @property
    def dtype(self) -> torch.dtype:
        return PRECISIONS[self.precision]

    def length(self, images: int) -> tuple[int, int]:
        """Steps of the optimiser an epoch of so many images, and in all."""
        per_epoch = math.ceil(images / self.batch_size)
        return per_epoch, self.steps or max(self.epochs * per_epoch, self.least_steps)

    def warmup(self, per_epoch: int) -> int:
        """Steps over which the learning rate rises."""
        in_steps = self.schedule.warmup_steps
        return round(self.schedule.warmup_epochs * per_epoch) if in_steps is None else in_steps

    def fall(self, total: int) -> int:
        """Steps between falls of a `step` schedule: as large a share of `total` as `decay_epochs` is of `epochs`."""
        return max(1, round(self.schedule.decay_epochs * total / self.epochs))


def settings_of(section: Mapping[str, Any] | None, phase: str) -> Settings:
    """The settings of a phase: the section, with what `trainer.phases` changes for it.

    Raises:
        AnoframeError: no section, a key that there is none of, or a value that makes no sense.
    """
    if section is None:
        raise AnoframeError(
            "this method is trained, and its config has no trainer section: inherit __base__/gradient.py"
        )
    changes = section.get("phases", {}).get(phase, {})
    merged = {key: value for key, value in section.items() if key != "phases"}
    for key, value in changes.items():
        deeper = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = {**merged[key], **value} if deeper else value
    schedule = merged.pop("schedule", {})
    check_arguments(Schedule, schedule, "trainer.schedule")
    check_arguments(Settings, merged, "trainer")
    settings = Settings(**merged)  # first: a wrong number of epochs makes a wrong schedule
    found = Schedule(**schedule)
    if "epochs" in changes and "decay_epochs" not in changes.get("schedule", {}):  # it follows the phase's own epochs
        found = replace(found, decay_epochs=found.decay_epochs * settings.epochs / max(1, section["epochs"]))
    return replace(settings, schedule=found)
