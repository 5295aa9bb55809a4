"""Build a class-incremental classifier from sections of a config."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from anoframe.errors import AnoframeError, suggest
from anoframe.models.class_incremental.base import ClassIncrementalLearner, ClassOf, category_class
from anoframe.models.class_incremental.settings import read_settings
from anoframe.models.class_incremental.text import TextSettings, build_text
from anoframe.registry import CLASSIFIERS, check_arguments


def build_classifier(
    section: Mapping[str, Any],
    features: int,
    encoder: Any = None,
    seed: int = 0,
    class_of: ClassOf = category_class,
) -> ClassIncrementalLearner:
    """Build an untrained classifier.

    Args:
        section: `model.classifier` of a config: `name` and arguments of the class; and `text`, the section
            `model.text`, for a class that takes it.
        features: length D of the feature vectors of the encoder.
        encoder: frozen encoder; its text tower is used for prompts.
        seed: of initial weights; also passed to a class with an argument `seed`.
        class_of: class of a training sample.

    Raises:
        AnoframeError: unknown name or argument, a value out of range, or an encoder without a text tower for prompts.
    """
    if "name" not in section:
        raise AnoframeError(f"model.classifier.name is missing: {suggest('', CLASSIFIERS.names())}")
    name = section["name"]
    kind = CLASSIFIERS.load(name)
    if not (inspect.isclass(kind) and issubclass(kind, ClassIncrementalLearner)):
        raise AnoframeError(f"model.classifier.name {name!r} is no classifier: {suggest('', CLASSIFIERS.names())}")
    parameters = inspect.signature(kind).parameters
    arguments: dict[str, Any] = {key: value for key, value in section.items() if key not in ("name", "text")}
    for key, value in (("features", features), ("class_of", class_of), ("encoder", encoder), ("seed", seed)):
        if key in parameters:
            arguments[key] = value
    text = read_settings(TextSettings, section.get("text"), "model.text")
    if "text" in parameters:
        arguments["text"] = build_text(text, encoder, seed)
    check_arguments(kind, {key: value for key, value in arguments.items() if key != "class_of"}, "model.classifier")
    with torch.random.fork_rng(devices=[]):  # same initial weights, whatever was drawn before
        torch.manual_seed(seed)
        classifier: ClassIncrementalLearner = kind(**arguments)
    return classifier
