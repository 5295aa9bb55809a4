"""Optimisers and schedules by name, from torch and timm."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from timm.optim import create_optimizer_v2, get_optimizer_class, get_optimizer_info, list_optimizers
from timm.scheduler import CosineLRScheduler, StepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn

from anoframe.errors import AnoframeError, suggest
from anoframe.registry import check_arguments
from anoframe.training.settings import Settings

WARMUP_START = 1000  # a warm-up begins at the learning rate over this


def build_optimizer(section: Mapping[str, Any], parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    """An optimiser of torch or timm by timm's name for it.

    Weight decay leaves out biases and all other vectors (timm's rule, ADer's too), unless `decay_vectors` says not to.

    Args:
        section: `name`, `lr`, `weight_decay`, `decay_vectors`, and arguments of its class; one that is None is left to
            the class.
        parameters: by name.

    Raises:
        AnoframeError: no such optimiser, an argument that it does not take, a value that it refuses, or something that
            is not here: second derivatives, a GPU, a package.
    """
    given = {key: value for key, value in section.items() if value is not None}
    name, rate, decay = given.pop("name", None), given.pop("lr", None), given.pop("weight_decay", 0.0)
    of_vectors = decay if given.pop("decay_vectors", False) else 0.0
    known = [str(one) for one in list_optimizers()]
    if name not in known:
        raise AnoframeError(f"unknown trainer.optimizer.name {name!r}: {suggest(str(name), known)}")
    if get_optimizer_info(name).second_order:
        raise AnoframeError(
            f"trainer.optimizer.name: {name!r} wants second derivatives, which are not kept: take another"
        )
    if not isinstance(rate, int | float) or not rate > 0 or not isinstance(decay, int | float) or decay < 0:
        raise AnoframeError(f"trainer.optimizer wants lr above 0 and weight_decay from 0, got {rate!r} and {decay!r}")
    try:
        kind = get_optimizer_class(name, bind_defaults=False)
        check_arguments(kind, {"params": [], **given}, f"optimizer {name!r}")
        given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
        _check_lengths(kind, given)
        return create_optimizer_v2(_groups(parameters, decay, of_vectors), name, lr=rate, weight_decay=decay, **given)
    except (TypeError, ValueError) as error:
        raise AnoframeError(f"optimizer {name!r} refuses its arguments {given}: {error}") from error
    except (AssertionError, ImportError) as error:  # timm's word for what bitsandbytes and APEX need
        raise AnoframeError(
            f"optimizer {name!r} cannot be had here ({error}): another --trainer.optimizer.name"
        ) from error


def _check_lengths(kind: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raise AnoframeError for another number of betas, or the like, than a class has: some see it at a step alone."""
    defaults = {name: one.default for name, one in inspect.signature(kind).parameters.items()}
    for key, value in given.items():
        usual = defaults.get(key)
        if isinstance(usual, tuple) and (not isinstance(value, tuple) or len(value) != len(usual)):
            raise AnoframeError(f"trainer.optimizer.{key} takes {len(usual)} numbers, as {usual}, got {value!r}")


def _groups(parameters: Mapping[str, nn.Parameter], decay: float, of_vectors: float) -> list[dict[str, Any]]:
    """Weights, and apart from them biases and all other vectors, with the decay of each."""
    vectors = [one for one in parameters.values() if one.ndim < 2]
    weights = [one for one in parameters.values() if one.ndim >= 2]
    groups = [{"params": weights, "weight_decay": decay}, {"params": vectors, "weight_decay": of_vectors}]
    return [group for group in groups if group["params"]]


def build_schedule(settings: Settings, optimizer: torch.optim.Optimizer, per_epoch: int, total: int) -> Scheduler:
    """A schedule driven by `step_update(n)` before step `n`, counted from 0; it depends on nothing but `n`.

    A warm-up is part of the whole: it takes the place of the first steps, and moves no later decay (ADer's way).

    Args:
        per_epoch: steps an epoch.
        total: steps in all.
    """
    schedule, warmup = settings.schedule, settings.warmup(per_epoch)
    start = max(group["lr"] for group in optimizer.param_groups) / WARMUP_START
    common: dict[str, Any] = {"warmup_t": warmup, "warmup_lr_init": start, "warmup_prefix": False, "t_in_epochs": False}
    if schedule.name == "cosine":
        return CosineLRScheduler(optimizer, total, lr_min=schedule.final_lr, **common)
    every = settings.fall(total) if schedule.name == "step" else total
    return StepLRScheduler(optimizer, every, schedule.decay_rate, **common)
