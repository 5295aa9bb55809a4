"""The methods: one module each, registered by existing (see anoframe.registry)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from anoframe.backbones import build_backbone
from anoframe.errors import AnoframeError, suggest
from anoframe.models.base import Detector
from anoframe.registry import MODELS, check_arguments


def build_detector(section: Mapping[str, Any], seed: int = 0) -> Detector:
    """The detector that `model` of a config describes, not yet fitted.

    Args:
        section: `name`, `backbone`, and the keyword arguments of the method's class.
        seed: draws initial weights, and is handed to a method whose class takes one.

    Raises:
        AnoframeError: unknown name or argument, or weights that cannot be reached; before anything heavy is built.
    """
    if missing := [key for key in ("name", "backbone") if key not in section]:
        raise AnoframeError(f"the model section lacks {', '.join(missing)}: inherit from a method's config")
    arguments = {key: value for key, value in section.items() if key not in ("name", "backbone")}
    method = MODELS.load(section["name"])
    if not (inspect.isclass(method) and issubclass(method, Detector)):  # whatever it is, it is not to be called
        raise AnoframeError(f"model {section['name']!r} is no Detector: {suggest('', MODELS.names())}")
    if "seed" in inspect.signature(method).parameters:
        arguments["seed"] = seed
    check_arguments(method, {"backbone": None, **arguments}, f"model {section['name']!r}")
    backbone = build_backbone(section["backbone"])
    with torch.random.fork_rng(devices=[]):  # the same initial weights, whatever was drawn before
        torch.manual_seed(seed)
        detector: Detector = method(backbone=backbone, **arguments)
    return detector
