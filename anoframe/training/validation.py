"""Check that a device can train with the settings of a config, before any work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from anoframe.backbones.precision import has_bfloat16
from anoframe.errors import AnoframeError, suggest
from anoframe.models.learner import Observation, Phase
from anoframe.training.optimizers import build_optimizer
from anoframe.training.settings import TrainingSettings, phase_settings


def check_training(
    stages: Sequence[Observation | Phase],
    section: Mapping[str, Any] | None,
    device: torch.device,
    names: Sequence[str],
) -> None:
    """Check the settings of each phase.

    Args:
        stages: training stages of the unfitted detector.
        section: `trainer` section of the config; None if the config has none.
        device: to train on.
        names: names of all possible phases, also those of later tasks.

    Raises:
        AnoframeError: as `phase_settings`; settings of an unknown phase, or settings that the device cannot train with.
    """
    phases = [stage for stage in stages if isinstance(stage, Phase)]
    if not phases:
        return
    for name in names:
        settings = phase_settings(section, name)
        _check_precision(settings.precision, device)
        _check_accumulation(settings, [phase for phase in phases if phase.name == name])
        build_optimizer(settings.optimizer, phases[0].parameters)  # cheap, and raises for a wrong optimiser
        _check_cosine(settings)
    for name in (section or {}).get("phases", {}):
        if name not in names:
            raise AnoframeError(f"trainer.phases has settings for {name!r}: {suggest(name, names)}")


def _check_accumulation(settings: TrainingSettings, phases: Sequence[Phase]) -> None:
    """Raise an AnoframeError if batches of a loss that depends on the whole batch would be computed in parts."""
    for phase in phases:
        if phase.couples_batch and settings.accumulate > 1:
            raise AnoframeError(
                f"phase {phase.name}: the loss of an image depends on its whole batch, so a batch in "
                f"{settings.accumulate} parts (trainer.accumulate) would train something else: --trainer.accumulate 1"
            )


def _check_cosine(settings: TrainingSettings) -> None:
    """Raise an AnoframeError if a cosine schedule would raise the learning rate."""
    final, rate = settings.schedule.final_lr, settings.optimizer["lr"]
    if settings.schedule.name == "cosine" and final > rate:
        raise AnoframeError(
            f"trainer.schedule.final_lr must be at most trainer.optimizer.lr, got {final}, which is above {rate}"
        )


def _check_precision(precision: str, device: torch.device) -> None:
    """Raise an AnoframeError if a device cannot compute in a precision."""
    if precision == "bfloat16" and not has_bfloat16(device):
        raise AnoframeError(
            f"trainer.precision bfloat16: this {device.type} has no bfloat16 instructions and would only be slower: "
            "--trainer.precision float32"
        )
    if precision == "float16" and device.type != "cuda":
        raise AnoframeError(
            f"trainer.precision float16 requires a GPU, this device is a {device.type}: --trainer.precision float32"
        )
