"""RD4AD: a student reconstructs the teacher's features from a small code, and fails where an image is not normal.

Deng & Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR 2022. Where the paper's text and
the authors' code differ, the default is the code, which produced the published numbers. The student never sees the
image, only a code too small for anything that normal images do not contain. Signed teachers, and differences from other
implementations: `docs/rd4ad.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from anoframe.errors import AnoframeError
from anoframe.models.base import Detector, Features, Observation, Phase, TrainingBatch
from anoframe.models.components.anomaly_map import gaussian_blur
from anoframe.models.rd4ad.loss import COMBINATIONS, LOSSES, distillation_map, reverse_distillation_loss
from anoframe.models.rd4ad.student import ReverseDistillation
from anoframe.types import Prediction

HEADS = ("auto", "relu", "linear")


class RD4AD(Detector):
    """Reverse distillation.

    Args:
        backbone: the teacher; returns feature maps `[B, C, h, w]` of several levels, shallow first. It has attributes
            `channels`, `strides`, and for `heads="auto"` also `signed`.
        loss: `"flat"` (the code) or `"local"` (the paper); see :func:`reverse_distillation_loss`.
        combine: `"sum"` or `"product"` of the levels' maps.
        heads: output of each level of the decoder: `"relu"` as published, `"linear"` with one more 1x1 convolution, or
            `"auto"`, linear for the teacher's signed levels.
        fuse, width, code_width, depths, block, code_depth: see :class:`ReverseDistillation`.
        sigma: standard deviation of the Gaussian on the map, in pixels; 0 for none.
    """

    def __init__(
        self,
        backbone: nn.Module,
        loss: str = "flat",
        combine: str = "sum",
        heads: str = "auto",
        fuse: bool = True,
        width: float = 0.5,
        code_width: float | None = None,
        depths: Sequence[int] | None = None,
        block: str = "bottleneck",
        code_depth: int = 3,
        sigma: float = 4.0,
    ):
        super().__init__(backbone)
        options = (("loss", loss, LOSSES), ("combine", combine, COMBINATIONS), ("heads", heads, HEADS))
        for key, value, allowed in options:
            if value not in allowed:
                raise AnoframeError(f"model.{key} is one of {', '.join(allowed)}, got {value!r}")
        if sigma < 0:
            raise AnoframeError(f"model.sigma is at least 0, got {sigma}")
        self.loss, self.combine, self.sigma = loss, combine, sigma
        self.student = ReverseDistillation(
            _backbone_attribute(backbone, "channels"),
            _backbone_attribute(backbone, "strides"),
            signed=_backbone_attribute(backbone, "signed") if heads == "auto" else heads == "linear",
            width=width,
            code_width=code_width,
            depths=depths,
            fuse=fuse,
            block=block,
            code_depth=code_depth,
        )

    def training_stages(self) -> Sequence[Observation | Phase]:
        parameters = {f"student.{name}": parameter for name, parameter in self.student.named_parameters()}
        return [Phase("student", parameters, self._losses)]

    def _losses(self, batch: TrainingBatch) -> Mapping[str, Tensor]:
        reconstructed = self.student(batch.features)
        return {"cosine": reverse_distillation_loss(batch.features, reconstructed, self.loss)}

    def compute_prediction(self, features: Features, size: tuple[int, int]) -> Prediction:
        maps = distillation_map(features, self.student(features), size, self.combine)
        maps = gaussian_blur(maps, self.sigma)
        return Prediction(maps.flatten(1).amax(1), maps)


def _backbone_attribute(backbone: nn.Module, name: str) -> tuple[Any, ...]:
    value = getattr(backbone, name, None)
    if value is None:
        raise AnoframeError(
            f"rd4ad needs a teacher with an attribute {name!r}, and {type(backbone).__name__} has none: "
            "use a backbone of anoframe.backbones, or add the attribute"
        )
    return tuple(value)
