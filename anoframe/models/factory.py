"""Build a detector from the `model` section of a config."""

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
    """Build the unfitted detector that `model` of a config describes.

    Args:
        section: `name`, `backbone`, and the keyword arguments of the method's class.
        seed: seed of the initial weights; also passed to a method whose class has an argument `seed`.

    Raises:
        AnoframeError: unknown name or argument, or weights that cannot be found. Names and arguments are checked before
            the backbone is built.
    """
    if missing := [key for key in ("name", "backbone") if key not in section]:
        raise AnoframeError(f"the model section has no {', '.join(missing)}: inherit from a method's config")
    arguments = {key: value for key, value in section.items() if key not in ("name", "backbone")}
    method = MODELS.load(section["name"])
    if not (inspect.isclass(method) and issubclass(method, Detector)):  # checked first: it may be any object
        raise AnoframeError(f"model {section['name']!r} is not a Detector: {suggest('', MODELS.names())}")
    if "seed" in inspect.signature(method).parameters:
        arguments["seed"] = seed
    check_arguments(method, {"backbone": None, **arguments}, f"model {section['name']!r}")
    backbone = build_backbone(section["backbone"])
    with torch.random.fork_rng(devices=[]):  # same initial weights, whatever was drawn before
        torch.manual_seed(seed)
        detector: Detector = method(backbone=backbone, **arguments)
    return detector
