"""Settings of RAML: the sections `model.pyramid`, `model.text` and `model.loss` of a config."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from anoframe.errors import AnoframeError, suggest

MODES = ("true", "tiles224", "reference")
SCALES = (1, 4, 16)  # crops per image at each scale: the whole image, 2 x 2 and 4 x 4 tiles
SCALE_SETS = ((1,), (1, 4), (1, 4, 16))
REDUCTIONS = ("reference", "per_term")


@dataclass(frozen=True)
class PyramidSettings:
    """Settings of the pyramid.

    Args:
        mode: how the crops are cut, see :mod:`anoframe.models.raml.crops`.
        scales: numbers of crops of the scales in use: `(1,)`, `(1, 4)` or `(1, 4, 16)`.
        hidden: width of the projected features, called H in the source.
        heads: attention heads, in the pyramid and in the text fusion.
        dropout: in the attentions and heads.

    Raises:
        AnoframeError: a value is out of range.
    """

    mode: str = "true"
    scales: Sequence[int] = SCALES
    hidden: int = 256
    heads: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        _check_choice("pyramid.mode", self.mode, MODES)
        if tuple(self.scales) not in SCALE_SETS:
            allowed = " or ".join(map(str, SCALE_SETS))
            raise AnoframeError(f"model.pyramid.scales must be {allowed}, got {tuple(self.scales)}")
        if self.heads < 1 or self.hidden < 4 or self.hidden % self.heads or self.hidden % 4:
            raise AnoframeError(
                "model.pyramid.hidden must be a positive multiple of 4 and of model.pyramid.heads, got "
                f"{self.hidden} with {self.heads} heads"
            )
        if not 0 <= self.dropout < 1:
            raise AnoframeError(f"model.pyramid.dropout must be at least 0 and below 1, got {self.dropout}")


@dataclass(frozen=True)
class TextSettings:
    """Settings of the text: prompts and their use.

    Args:
        weight: share of the text score in the image score, in [0, 1].
        fusion: visual features attend to the text features of their category.
        normal, defect: prompts of a normal and of a defective part; `{}` is the category.
        replace_underscores: write the category with spaces, "metal nut"; the reference uses it raw, "metal_nut".

    Raises:
        AnoframeError: a value is out of range, or a prompt has no place for the category.
    """

    weight: float = 0.15
    fusion: bool = True
    normal: str = "a photo of a flawless {}"
    defect: str = "a photo of a damaged {}"
    replace_underscores: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise AnoframeError(f"model.text.weight must be between 0 and 1, got {self.weight}")
        for key in ("normal", "defect"):
            prompt = getattr(self, key)
            if prompt.count("{}") != 1 or prompt.count("{") != 1 or prompt.count("}") != 1:
                raise AnoframeError(
                    f"model.text.{key} must contain {{}} once, the place of the category, and no other braces, "
                    f"got {prompt!r}"
                )

    def prompts(self, category: str) -> tuple[str, str]:
        """Return the prompts of a normal and of a defective part of a category."""
        words = category.replace("_", " ") if self.replace_underscores else category
        return self.normal.format(words), self.defect.format(words)


@dataclass(frozen=True)
class LossSettings:
    """Settings of the loss, see :mod:`anoframe.models.raml.loss`.

    Args:
        maccl: use the metric-learning loss MACCL beside the binary cross-entropy; False: cross-entropy alone.
        reduction: `"reference"`: one mean over the batch; `"per_term"`: a mean over the images that each term is
            defined on, as the formula of the text reads.
        margin_base, margin_sigma, margin_resolution: `m_base`, `l_sigma` and `l_res` of the adaptive margin.
        resolution, max_resolution: `r` and `r_max`, in pixels: side of the encoder's input, and of the photographs.
        centre, margin, contrastive: weights of the three terms.
        temperature: of the contrastive term.
        tracker: weight categories by their difficulty.

    Raises:
        AnoframeError: a value is out of range.
    """

    maccl: bool = True
    reduction: str = "reference"
    margin_base: float = 0.5
    margin_sigma: float = 0.3
    margin_resolution: float = 0.3
    resolution: int = 224
    max_resolution: int = 900
    centre: float = 1.0
    margin: float = 1.0
    contrastive: float = 0.5
    temperature: float = 0.07
    tracker: bool = True

    def __post_init__(self) -> None:
        _check_choice("loss.reduction", self.reduction, REDUCTIONS)
        for key in ("margin_base", "margin_sigma", "margin_resolution", "centre", "margin", "contrastive"):
            if not 0 <= getattr(self, key) < math.inf:
                raise AnoframeError(f"model.loss.{key} must be 0 or more, got {getattr(self, key)}")
        if not 0 < self.temperature < math.inf:
            raise AnoframeError(f"model.loss.temperature must be above 0, got {self.temperature}")
        if not 0 < self.resolution <= self.max_resolution:
            raise AnoframeError(
                f"model.loss.resolution must be between 1 and model.loss.max_resolution = {self.max_resolution}, "
                f"got {self.resolution}"
            )


def _check_choice(key: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise AnoframeError(f"unknown model.{key} {value!r}: {suggest(value, allowed)}")
