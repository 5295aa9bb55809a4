"""Settings of CLAP4CLIP: sections of `model.classifier` in a config. Symbols in brackets are those of the paper."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from anoframe.errors import AnoframeError, suggest
from anoframe.registry import check_arguments

PROMPT_STYLES = ("hand_crafted", "coop")
MISSING_PROMPT_STYLES = ("maple", "attriclip")
PRIORS = ("static", "np", "frozen")
ROUTINGS = ("none", "alloc", "prior")
ROUTING_UNITS = ("image", "batch")
Settings = TypeVar("Settings")


@dataclass(frozen=True)
class VGASettings:
    """Settings of the visual-guided attention: `model.classifier.vga`.

    Args:
        enabled: False: text features are not adapted to images, `h = q`.
        heads: None: 1 with hand-crafted prompts, and one per 64 channels with CoOp, as in the reference.
        hidden: width of the feed-forward layer.
        dropout: in attentions and layers, in the phase `task`.
        task_tokens: one learned query per task beside the classes.
    """

    enabled: bool = True
    heads: int | None = None
    hidden: int = 2048
    dropout: float = 0.1
    task_tokens: bool = False

    def __post_init__(self) -> None:
        _check_at_least("vga.heads", 1 if self.heads is None else self.heads, 1)
        _check_at_least("vga.hidden", self.hidden, 1)
        if not 0 <= self.dropout < 1:
            raise AnoframeError(f"model.classifier.vga.dropout must be at least 0 and below 1, got {self.dropout}")
        if self.task_tokens and not self.enabled:
            raise AnoframeError(
                "model.classifier.vga.task_tokens are queries of the attention, and model.classifier.vga.enabled is "
                "False: set one of the two differently"
            )


@dataclass(frozen=True)
class ContextSettings:
    """Settings of the prompt style `coop`: `model.classifier.context`.

    Args:
        length: number of context vectors; None: 12, or 2 per task if expandable, as in the reference.
        expandable: each task adds vectors, and prompts have the mean over the tasks; the older ones are frozen in the
            phase `task`.
    """

    length: int | None = None
    expandable: bool = False

    def __post_init__(self) -> None:
        _check_at_least("context.length", self.size, 1)

    @property
    def size(self) -> int:
        """Number of context vectors, with the default resolved."""
        return (2 if self.expandable else 12) if self.length is None else self.length


@dataclass(frozen=True)
class PosteriorSettings:
    """Settings of the distribution over text features: `model.classifier.posterior`.

    Args:
        variational: False: adapters give a mean alone, without samples and prior; an ablation.
        samples: Monte Carlo samples per task [S], in training and at a test.
        hierarchical: a global adapter for all classes draws samples before the adapters of the tasks.
        global_samples: samples of the global adapter [S_g]; there are `samples * global_samples` samples then.
        expandable: one adapter per task; False: all tasks share the first one.
        prior: `"static"`: N(0, I); `"np"`: from a random part of the batch, as in neural processes; `"frozen"`: from
            the mean text features of each class.
        context: share of a batch that the prior `np` sees.
    """

    variational: bool = True
    samples: int = 20
    hierarchical: bool = False
    global_samples: int = 10
    expandable: bool = True
    prior: str = "static"
    context: float = 0.67

    def __post_init__(self) -> None:
        _check_choice("posterior.prior", self.prior, PRIORS)
        _check_at_least("posterior.samples", self.samples, 1)
        _check_at_least("posterior.global_samples", self.global_samples, 1)
        if not 0 < self.context <= 1:
            raise AnoframeError(f"model.classifier.posterior.context must be in (0, 1], got {self.context}")
        if self.hierarchical and not self.variational:
            raise AnoframeError(
                "model.classifier.posterior.hierarchical draws samples, and model.classifier.posterior.variational is "
                "False: set one of the two differently"
            )


@dataclass(frozen=True)
class LossSettings:
    """Weights of the losses beside the cross-entropy: `model.classifier.loss`; 0 turns one off.

    Args:
        language: of the language-aware loss [beta].
        kl: of the divergence from the prior.
        distillation: of the squared change of the global means of old classes, 0.3 in the reference; hierarchical only.
        orthogonality: of the cross-entropy of the Gram matrix of the mean samples, 5 in the reference.
    """

    language: float = 15.0
    kl: float = 0.001
    distillation: float = 0.0
    orthogonality: float = 0.0

    def __post_init__(self) -> None:
        for key in ("language", "kl", "distillation", "orthogonality"):
            _check_at_least(f"loss.{key}", getattr(self, key), 0)


@dataclass(frozen=True)
class RoutingSettings:
    """Settings of the routing by task anchors, which is no part of the paper: `model.classifier.routing`.

    Args:
        mode: `"none"`; `"alloc"`: tasks near to an image get more of the samples; `"prior"`: logarithms of the weights
            are added to the logits.
        temperature: of the softmax over cosines with the anchors.
        weight: factor of the logarithms of the weights, for `"prior"`.
        unit: `"image"`: weights of each image; `"batch"`: mean weights of the batch if it is computed jointly.
    """

    mode: str = "none"
    temperature: float = 0.07
    weight: float = 1.0
    unit: str = "image"

    def __post_init__(self) -> None:
        _check_choice("routing.mode", self.mode, ROUTINGS)
        _check_choice("routing.unit", self.unit, ROUTING_UNITS)
        _check_at_least("routing.weight", self.weight, 0)
        if not 0 < self.temperature < math.inf:
            raise AnoframeError(f"model.classifier.routing.temperature must be above 0, got {self.temperature}")


def read_settings(kind: type[Settings], section: Mapping[str, Any] | None, key: str) -> Settings:
    """Build settings from a section of the config.

    Args:
        kind: a settings class.
        section: its arguments; None for the defaults.
        key: of the section, for messages.

    Raises:
        AnoframeError: an unknown key, or a value of a wrong type or out of its range.
    """
    check_arguments(kind, section or {}, key)
    return kind(**(section or {}))


def check_prompt_style(style: str) -> None:
    """Raise an AnoframeError for a prompt style that does not exist, or is not implemented."""
    if style in MISSING_PROMPT_STYLES:
        raise AnoframeError(
            f"model.classifier.prompt_style {style!r} is not implemented here; available: {', '.join(PROMPT_STYLES)}"
        )
    _check_choice("prompt_style", style, PROMPT_STYLES)


def _check_choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise AnoframeError(f"unknown model.classifier.{key} {value!r}: {suggest(value, allowed)}")


def _check_at_least(key: str, value: float, least: int) -> None:
    if not least <= value < math.inf:
        raise AnoframeError(f"model.classifier.{key} must be {least} or more, got {value}")
