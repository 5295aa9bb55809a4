"""RD4AD: a student rebuilds the teacher's features from a code of them, and fails where something is not normal.

Deng & Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR 2022. Where the paper's text and
the authors' code differ, the code gave the published numbers and is the default. The student never sees the image, only
a code too small to carry what normal images do not have. What signed teachers need, and what other implementations do
differently: `docs/rd4ad.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from anoframe.errors import AnoframeError
from anoframe.models.base import Detector, Features, Observation, Phase, TrainingBatch
from anoframe.models.components.anomaly_map import gaussian_blur
from anoframe.models.rd4ad.network import COMBINATIONS, LOSSES, ReverseDistillation, reverse_distillation_loss
from anoframe.types import Prediction

HEADS = ("auto", "relu", "linear")


class RD4AD(Detector):
    """Reverse distillation.

    Args:
        backbone: the teacher: feature maps `[B, C, h, w]` of several levels, the shallowest first. It says its
            `channels`, its `strides`, and for `heads="auto"` whether its levels are `signed`.
        loss: `"flat"` (the code) or `"local"` (the paper); see :func:`reverse_distillation_loss`.
        combine: `"sum"` or `"product"` of the levels' maps.
        heads: what a level of the decoder ends in: `"relu"` as published, `"linear"` a 1x1 convolution more, or
            `"auto"`, linear for the teacher's signed levels.
        fuse, width, code_width, depths, block, code_depth: see :class:`ReverseDistillation`.
        sigma: of the Gaussian on the map, in pixels; 0 for none.
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
        for key, value, known in (("loss", loss, LOSSES), ("combine", combine, COMBINATIONS), ("heads", heads, HEADS)):
            if value not in known:
                raise AnoframeError(f"model.{key} is one of {', '.join(known)}, got {value!r}")
        if sigma < 0:
            raise AnoframeError(f"model.sigma is at least 0, got {sigma}")
        self.loss, self.combine, self.sigma = loss, combine, sigma
        self.student = ReverseDistillation(
            _asked(backbone, "channels"),
            _asked(backbone, "strides"),
            signed=_asked(backbone, "signed") if heads == "auto" else heads == "linear",
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
        rebuilt = self.student(batch.features)
        return {"cosine": reverse_distillation_loss(batch.features, rebuilt, self.loss)}

    def detect(self, features: Features, size: tuple[int, int]) -> Prediction:
        maps = gaussian_blur(self.student.anomaly_map(features, size, self.combine), self.sigma)
        return Prediction(maps.flatten(1).amax(1), maps)


def _asked(backbone: nn.Module, what: str) -> tuple[Any, ...]:
    known = getattr(backbone, what, None)
    if known is None:
        raise AnoframeError(f"rd4ad builds its student for a teacher whose {what} it knows, and this one does not say")
    return tuple(known)
