"""Optimisers and learning rate schedules of torch and timm, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from anoframe.errors import AnoframeError, suggest
from anoframe.registry import check_arguments
from anoframe.training.settings import TrainingSettings
from anoframe.training.warmup_cosine import WarmupCosine
from anoframe.utils.imports import load_timm

if TYPE_CHECKING:
    from timm.scheduler.scheduler import Scheduler

WARMUP_DIVISOR = 1000  # a warm-up starts at the learning rate divided by this


def build_optimizer(section: Mapping[str, Any], parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    """Build an optimiser of torch or timm by its name in timm.

    Weight decay excludes biases and all other vectors (the rule of timm and ADer), unless `decay_vectors` is True.

    Args:
        section: `name`, `lr`, `weight_decay`, `decay_vectors`, and arguments of the optimiser's class. The class uses
            its default for an argument that is None.
        parameters: by name.

    Raises:
        AnoframeError: unknown optimiser, unknown argument, a value that the optimiser rejects, or a requirement that is
            not met: second derivatives, a GPU, a package.
    """
    arguments = {key: value for key, value in section.items() if value is not None}
    name, rate, decay = arguments.pop("name", None), arguments.pop("lr", None), arguments.pop("weight_decay", 0.0)
    vector_decay = decay if arguments.pop("decay_vectors", False) else 0.0
    _check_name(name)
    _check_rates(rate, decay)
    optim = load_timm("optim")
    try:
        optimizer_class = optim.get_optimizer_class(name, bind_defaults=False)
        check_arguments(optimizer_class, {"params": [], **arguments}, f"optimizer {name!r}")
        arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
        _check_lengths(optimizer_class, arguments)
        groups = _parameter_groups(parameters, decay, vector_decay)
        optimizer: torch.optim.Optimizer = optim.create_optimizer_v2(
            groups, name, lr=rate, weight_decay=decay, **arguments
        )
        return optimizer
    except (TypeError, ValueError) as error:
        raise AnoframeError(f"optimizer {name!r} rejects its arguments {arguments}: {error}") from error
    except (AssertionError, ImportError) as error:  # what timm raises where bitsandbytes or APEX is missing
        raise AnoframeError(
            f"optimizer {name!r} is not available on this machine ({error}): choose another --trainer.optimizer.name"
        ) from error


def _check_name(name: Any) -> None:
    optim = load_timm("optim")
    names = [str(item) for item in optim.list_optimizers()]
    if name not in names:
        raise AnoframeError(f"unknown trainer.optimizer.name {name!r}: {suggest(str(name), names)}")
    if optim.get_optimizer_info(name).second_order:
        raise AnoframeError(
            f"trainer.optimizer.name {name!r} needs second derivatives, which the gradient loop does not compute: "
            "choose another --trainer.optimizer.name"
        )


def _check_rates(rate: Any, decay: Any) -> None:
    if not isinstance(rate, int | float) or not rate > 0:
        raise AnoframeError(f"trainer.optimizer.lr must be a number above 0, got {rate!r}")
    if not isinstance(decay, int | float) or decay < 0:
        raise AnoframeError(f"trainer.optimizer.weight_decay must be a number of 0 or more, got {decay!r}")


def _check_lengths(optimizer_class: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raise an AnoframeError for a wrong number of betas or the like; some classes notice it only at the first step."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(optimizer_class).parameters.items()}
    for key, value in arguments.items():
        default = defaults.get(key)
        if isinstance(default, tuple) and (not isinstance(value, tuple) or len(value) != len(default)):
            raise AnoframeError(
                f"trainer.optimizer.{key} takes {len(default)} numbers, for example {default}, got {value!r}"
            )


def _parameter_groups(
    parameters: Mapping[str, nn.Parameter], decay: float, vector_decay: float
) -> list[dict[str, Any]]:
    """Weights, and in a group of their own biases and all other vectors, with the weight decay of each group."""
    vectors = [parameter for parameter in parameters.values() if parameter.ndim < 2]
    weights = [parameter for parameter in parameters.values() if parameter.ndim >= 2]
    groups = [{"params": weights, "weight_decay": decay}, {"params": vectors, "weight_decay": vector_decay}]
    return [group for group in groups if group["params"]]


def build_schedule(
    settings: TrainingSettings, optimizer: torch.optim.Optimizer, steps_per_epoch: int, num_steps: int
) -> Scheduler | WarmupCosine:
    """Build a learning rate schedule, driven by `step_update(n)` before step `n`, from 0; it depends only on `n`.

    A warm-up replaces the first steps of the schedule and does not shift later decays, as in ADer.

    Args:
        settings: of the phase.
        optimizer: whose learning rate is set.
        steps_per_epoch: of the phase.
        num_steps: length of the phase.
    """
    schedule, warmup = settings.schedule, settings.warmup_steps(steps_per_epoch)
    if schedule.name == "warmup_cosine":
        return WarmupCosine(optimizer, num_steps, schedule.warmup_share, schedule.final_share)
    start = max(group["lr"] for group in optimizer.param_groups) / WARMUP_DIVISOR
    common: dict[str, Any] = {"warmup_t": warmup, "warmup_lr_init": start, "warmup_prefix": False, "t_in_epochs": False}
    if schedule.name == "cosine":
        cosine: Scheduler = load_timm("scheduler").CosineLRScheduler(
            optimizer, num_steps, lr_min=schedule.final_lr, **common
        )
        return cosine
    decay_steps = settings.decay_steps(num_steps) if schedule.name == "step" else num_steps
    steps: Scheduler = load_timm("scheduler").StepLRScheduler(optimizer, decay_steps, schedule.decay_rate, **common)
    return steps
