"""Build a learner from the sections `learner`, `encoder` and `views` of a config."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from anoframe.backbones.encoder import Encoder
from anoframe.errors import AnoframeError, suggest
from anoframe.pretraining.base import Pretraining
from anoframe.pretraining.views import view_settings
from anoframe.registry import PRETRAINING, check_arguments


def build_pretraining(cfg: Mapping[str, Any], classes: Sequence[str], seed: int) -> Pretraining:
    """Build an untrained learner.

    Args:
        cfg: plain config with the sections `learner`, `encoder` and `views`.
        classes: of the training images, for learners that need them.
        seed: of the initial weights.

    Raises:
        AnoframeError: unknown name, argument or preset, a value out of its range, or weights that cannot be found.
    """
    arguments = dict(cfg["learner"])
    name = arguments.pop("name")
    learner_class = PRETRAINING.load(name)
    if not (inspect.isclass(learner_class) and issubclass(learner_class, Pretraining)):
        raise AnoframeError(f"learner {name!r} pretrains nothing: {suggest('', PRETRAINING.names())}")
    if learner_class.needs_classes:
        arguments["classes"] = list(classes)
    arguments["views"] = view_settings(cfg["views"])
    check_arguments(learner_class, {"encoder": None, **arguments}, f"learner {name!r}")
    check_arguments(Encoder, cfg["encoder"], "encoder")
    with torch.random.fork_rng(devices=[]):  # same initial weights, whatever was drawn before
        torch.manual_seed(seed)
        learner: Pretraining = learner_class(encoder=Encoder(**cfg["encoder"]), **arguments)
    return learner
