"""CDO: an apprentice imitates the features of an expert on normal pixels, and is pushed away from them on defects.

Cao et al., "Collaborative Discrepancy Optimization for Reliable Image Anomaly Localization", IEEE Transactions on
Industrial Informatics 2023. Both networks have the same architecture and see the same image, in which a rectangle of
noise is the defect of the training; the expert is frozen, the apprentice starts from random weights. Differences
between the published versions of the code, and figures: `docs/cdo.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.data.synthesis.mixture import build_generator
from anoframe.errors import AnoframeError
from anoframe.models.base import Detector, Features, Observation, Phase, TrainingBatch
from anoframe.models.cdo.loss import cdo_loss, discrepancies
from anoframe.models.components.anomaly_map import gaussian_blur, upsample
from anoframe.models.components.synthetic_views import SyntheticDefects
from anoframe.types import Prediction

_VERSION = 1  # of the features


class CDO(Detector):
    """Collaborative discrepancy optimisation.

    Args:
        backbone: the expert, a `FeaturePyramid`.
        synthesis: generator of the defects of the training: `name`, and its arguments.
        margin: learn from the synthetic defects (MOM); False trains on images without defects.
        gamma: exponent of the weights of OOM, 2 as published; 0: all locations have the same weight.
        sigma: standard deviation of the Gaussian on the map, in pixels; 0 for none.
        top_share: the score is the mean of this share of the largest values of the map; 0: the maximum.
    """

    def __init__(
        self,
        backbone: nn.Module,
        synthesis: Mapping[str, Any] = MappingProxyType({"name": "cdo"}),
        margin: bool = True,
        gamma: float = 2.0,
        sigma: float = 4.0,
        top_share: float = 0.01,
    ):
        super().__init__(backbone)
        if gamma < 0 or sigma < 0:
            raise AnoframeError(f"model.gamma and model.sigma are 0 or more, got {gamma} and {sigma}")
        if not 0 <= top_share < 1:
            raise AnoframeError(f"model.top_share lies in [0, 1), got {top_share}")
        self.gamma, self.sigma, self.top_share = gamma, sigma, top_share
        self._generator = build_generator(synthesis)
        self._views = SyntheticDefects(self._generator if margin else self._generator.with_probability(0.0))
        self.apprentice = _untrained_copy(backbone)

    def extract_features(self, images: Tensor) -> Features:
        """Return the maps of the expert and the image itself, which the apprentice needs."""
        return {"image": images, **{f"expert{i}": level for i, level in enumerate(self.backbone(images))}}

    def encoding(self) -> dict[str, Any] | None:
        expert: Any = self.backbone
        return {"version": _VERSION, "backbone": expert.encoding()}

    def notes(self) -> Sequence[str]:
        return self._generator.notes()

    def training_stages(self) -> Sequence[Observation | Phase]:
        parameters = {f"apprentice.{name}": value for name, value in self.apprentice.named_parameters()}
        return [Phase("apprentice", parameters, self._losses, couples_batch=True, views=self._views)]

    def _losses(self, batch: TrainingBatch) -> Mapping[str, Tensor]:
        images, masks = batch.features["image"], batch.features["mask"]
        maps = discrepancies(self.backbone(images), self._imitate(images))
        return {f"level{i}": cdo_loss(level, masks, self.gamma) for i, level in enumerate(maps)}

    def compute_prediction(self, features: Features, size: tuple[int, int]) -> Prediction:
        expert = [features[f"expert{i}"] for i in range(len(features) - 1)]
        levels = [
            upsample(1 - F.cosine_similarity(target.float(), output.float(), dim=1), size, align_corners=True)
            for target, output in zip(expert, self._imitate(features["image"]), strict=True)
        ]
        maps = gaussian_blur(torch.stack(levels).mean(0), self.sigma)
        flat = maps.flatten(1)
        largest = max(1, int(self.top_share * flat.shape[1]))
        return Prediction(flat.topk(largest).values.mean(1), maps)

    def _imitate(self, images: Tensor) -> list[Tensor]:
        """Return the maps of the apprentice, one per level."""
        expert: Any = self.backbone
        return list(self.apprentice(expert.normalise(images)))


def _untrained_copy(backbone: Any) -> nn.Module:
    build = getattr(backbone, "untrained_network", None)
    if build is None:
        raise AnoframeError(
            f"cdo needs a backbone whose network can be built again, and {type(backbone).__name__} is none: use a timm "
            "model"
        )
    network: nn.Module = build()
    return network
