"""Whether training as a config wants it can be done here, told before any work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from anoframe.backbones.timm_pyramid import has_bfloat16
from anoframe.errors import AnoframeError, suggest
from anoframe.models.base import Observation, Phase
from anoframe.training.optimizers import build_optimizer
from anoframe.training.settings import Settings, settings_of


def check_training(
    steps: Sequence[Observation | Phase],
    section: Mapping[str, Any] | None,
    device: torch.device,
    names: Sequence[str],
) -> None:
    """Check the settings of each phase, before any work starts.

    Args:
        section: the `trainer` section of the config; None where it has none.
        names: of all phases that there may be, those of later tasks among them.

    Raises:
        AnoframeError: as `settings_of`; settings for a phase that the method has not, or that the device cannot do.
    """
    phases = [step for step in steps if isinstance(step, Phase)]
    if not phases:
        return
    for name in names:
        settings = settings_of(section, name)
        _check_precision(settings.precision, device)
        build_optimizer(settings.optimizer, phases[0].parameters)  # holds nothing yet, and refuses what it cannot be
        _check_cosine(settings)
    for name in (section or {}).get("phases", {}):
        if name not in names:
            raise AnoframeError(f"trainer.phases has settings for {name!r}: {suggest(name, names)}")


def _check_cosine(settings: Settings) -> None:
    """Raise AnoframeError for a cosine that rises: it would train with steps that nobody asked for."""
    final, rate = settings.schedule.final_lr, settings.optimizer["lr"]
    if settings.schedule.name == "cosine" and final > rate:
        raise AnoframeError(f"trainer.schedule.final_lr is at most trainer.optimizer.lr, got {final} and {rate}")


def _check_precision(precision: str, device: torch.device) -> None:
    if precision == "bfloat16" and not has_bfloat16(device):
        raise AnoframeError(
            f"this {device.type} computes no bfloat16 of its own, and would only be slower: --trainer.precision float32"
        )
    if precision == "float16" and device.type != "cuda":
        raise AnoframeError(
            f"trainer.precision float16 is for GPUs, this is a {device.type}: --trainer.precision float32"
        )
