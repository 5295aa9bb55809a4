"""SimCLR: two views of an image attract each other, all other images of the batch repel.

Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

from torch import Tensor, nn

from anoframe.backbones.encoder import Encoder
from anoframe.distributed.shared_batch import SharedBatch, share_batch
from anoframe.errors import AnoframeError
from anoframe.models.learner import TrainingBatch, Views
from anoframe.pretraining.base import Pretraining
from anoframe.pretraining.heads import ProjectionHead
from anoframe.pretraining.micro_batches import forward_views
from anoframe.pretraining.monitor import spread
from anoframe.pretraining.nt_xent import contrast
from anoframe.pretraining.views import AugmentedViews, ViewSettings


class SimCLR(Pretraining):
    """NT-Xent on a projection head.

    Args:
        encoder: to train.
        views: distribution of the two views.
        temperature: of NT-Xent.
        hidden: width of the projection head; 0: that of the features.
        dim: length of an embedding.
        head_bn: BatchNorm after the first layer of the head.
        micro_batches: number of parts a batch is computed in, each twice, with all negatives of the batch: the memory
            of one part, and four thirds of the time or more, as small parts are slower; see
            `anoframe.pretraining.micro_batches`.
    """

    measurements: ClassVar[Collection[str]] = ("top1", "top5", "spread")
    compares_images = True

    def __init__(
        self,
        encoder: Encoder,
        views: ViewSettings,
        temperature: float = 0.1,
        hidden: int = 0,
        dim: int = 128,
        head_bn: bool = True,
        micro_batches: int = 1,
    ):
        super().__init__(encoder)
        if not temperature > 0:
            raise AnoframeError(f"learner.temperature must be above 0, got {temperature}")
        if micro_batches < 1 or dim < 1 or hidden < 0:
            raise AnoframeError(
                f"learner.micro_batches and dim are 1 or more and hidden is 0 or more, got {micro_batches}, {dim} and "
                f"{hidden}"
            )
        self.temperature, self.micro_batches = temperature, micro_batches
        self._view_settings = views
        self.head = ProjectionHead(encoder.num_features, hidden or encoder.num_features, dim, head_bn)
        self._embed = [nn.Sequential(encoder, self.head)]  # in a list: no second name for the same parameters

    def views(self) -> Views:
        return AugmentedViews(self._view_settings)

    def losses(self, batch: TrainingBatch) -> Mapping[str, Tensor]:
        return self.contrast_losses(batch, share_batch(batch.rows))

    def contrast_losses(self, batch: TrainingBatch, shared: SharedBatch) -> dict[str, Tensor]:
        """Compute NT-Xent and its measurements."""
        views = [batch.features[name] for name in ("first", "second")]
        first, second = forward_views(self._embed[0], views, shared.num_parts(self.micro_batches))
        result = contrast(first, second, self.temperature, shared)
        return {
            "nt_xent": result.loss,
            "top1": result.accuracy(1),
            "top5": result.accuracy(5),
            "spread": spread(first.detach()),
        }

    def facts(self) -> dict[str, str]:
        return {"temperature": str(self.temperature)}
