"""SimSiam: two views of an image attract each other, without negatives.

Chen and He, "Exploring Simple Siamese Representation Learning", CVPR 2021. Without the stop-gradient all images get the
same features (section 4.1): that setting is the baseline of collapse, which `spread` shows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.backbones.encoder import Encoder
from anoframe.models.learner import TrainingBatch, Views
from anoframe.pretraining.base import Pretraining
from anoframe.pretraining.heads import SimSiamPredictor, SimSiamProjector
from anoframe.pretraining.monitor import spread
from anoframe.pretraining.views import AugmentedViews, ViewSettings


class SimSiam(Pretraining):
    """Negative cosine similarity of the prediction from one view and the projection of the other, both ways.

    Args:
        encoder: to train.
        views: distribution of the two views.
        dim: length of a projection.
        predictor: use a predictor; False collapses.
        stop_gradient: no gradient through the projections; False collapses.
    """

    measurements: ClassVar[Collection[str]] = ("spread",)

    def __init__(
        self,
        encoder: Encoder,
        views: ViewSettings,
        dim: int = 512,
        predictor: bool = True,
        stop_gradient: bool = True,
    ):
        super().__init__(encoder)
        self._view_settings, self.stop_gradient = views, stop_gradient
        self.projector = SimSiamProjector(encoder.num_features, dim)
        self.predictor = SimSiamPredictor(dim) if predictor else nn.Identity()

    def views(self) -> Views:
        return AugmentedViews(self._view_settings)

    def losses(self, batch: TrainingBatch) -> Mapping[str, Tensor]:
        targets = [self.projector(self.encoder(batch.features[name])) for name in ("first", "second")]
        predictions = [self.predictor(target) for target in targets]
        targets = [target.detach() if self.stop_gradient else target for target in targets]
        first, second = (
            -F.cosine_similarity(prediction.float(), target.float(), dim=1).mean()
            for prediction, target in zip(predictions, reversed(targets), strict=True)
        )
        return {"similarity": (first + second) / 2, "spread": spread(targets[0].detach())}
