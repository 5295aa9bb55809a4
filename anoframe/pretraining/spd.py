"""SPot-the-Difference: SimCLR with features that notice a small local change and ignore a weak global one.

Zou et al., "SPot-the-Difference Self-Supervised Pre-training for Anomaly Detection and Segmentation", ECCV 2022. The
local change is SmoothBlend, the global one a mild augmentation. The exact form of the loss and its weight are not
certain here; see docs/pretraining.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from anoframe.backbones.encoder import Encoder
from anoframe.distributed.shared_batch import share_batch
from anoframe.errors import AnoframeError, suggest
from anoframe.models.learner import ImageSource, TrainingBatch, Views
from anoframe.pretraining.micro_batches import forward_views
from anoframe.pretraining.simclr import SimCLR
from anoframe.pretraining.triplet import negative_views
from anoframe.pretraining.views import AugmentedViews, ViewSettings, draw_view

FORMS = ("contrastive", "cosine")


class SPD(SimCLR):
    """SimCLR plus `eta` times the loss of SPD on the features of an image, its weak global and its local change.

    Args:
        encoder, views, temperature, hidden, dim, head_bn, micro_batches: see `SimCLR`.
        synthesis: generator of the local change, `name` and its arguments.
        eta: weight of the loss of SPD.
        form: `"contrastive"` or `"cosine"`, see `spd_loss`.
        spd_temperature: of the contrastive form.
    """

    measurements: ClassVar[Collection[str]] = (*SimCLR.measurements, "noticed")

    def __init__(
        self,
        encoder: Encoder,
        views: ViewSettings,
        synthesis: Mapping[str, Any],
        temperature: float = 0.1,
        hidden: int = 0,
        dim: int = 128,
        head_bn: bool = True,
        micro_batches: int = 1,
        eta: float = 0.1,
        form: str = "contrastive",
        spd_temperature: float = 0.1,
    ):
        super().__init__(encoder, views, temperature, hidden, dim, head_bn, micro_batches)
        if form not in FORMS:
            raise AnoframeError(f"unknown learner.form {form!r}: {suggest(form, FORMS)}")
        if eta < 0 or not spd_temperature > 0:
            raise AnoframeError(
                f"learner.eta is 0 or more and learner.spd_temperature above 0, got {eta} and {spd_temperature}"
            )
        self.eta, self.form, self.spd_temperature = eta, form, spd_temperature
        self._draw = SPDViews(views, negative_views(synthesis, views.size))

    def views(self) -> Views:
        return self._draw

    def losses(self, batch: TrainingBatch) -> Mapping[str, Tensor]:
        shared = share_batch(batch.rows)
        names = ("anchor", "global", "negative")
        base, weak, local = forward_views(
            self.encoder, [batch.features[name] for name in names], shared.num_parts(self.micro_batches)
        )
        loss = spd_loss(base.float(), weak.float(), local.float(), self.form, self.spd_temperature)
        near, far = (F.cosine_similarity(base, other, dim=1) for other in (weak, local))
        return {
            **self.contrast_losses(batch, shared),
            "spd": self.eta * loss,
            "noticed": (far < near).detach().float().mean(),
        }


def spd_loss(base: Tensor, weak: Tensor, local: Tensor, form: str = "contrastive", temperature: float = 0.1) -> Tensor:
    """Compute the loss of `[N, D]` features of an image, of its weak global and of its local change.

    The cosine form is cos(base, local) - cos(base, weak). The contrastive form is the cross-entropy of the weak change
    against the local one, with the cosines divided by the temperature. No gradient flows through `base`.
    """
    near, far = (F.cosine_similarity(base.detach(), other, dim=1) for other in (weak, local))
    if form == "cosine":
        return (far - near).mean()
    return F.softplus((far - near) / temperature).mean()


class SPDViews:
    """Draws two strong views, the image, its weak global change and its local change."""

    def __init__(self, settings: ViewSettings, local: Views):
        self._strong = AugmentedViews(settings)
        self._weak = replace(
            settings,
            scale=(0.9, 1.0),
            flip=0.0,
            vertical_flip=0.0,
            jitter=(0.1, 0.1, 0.1, 0.02),
            gray_p=0.0,
            blur_p=0.0,
        )
        self._local = local

    def __call__(self, images: ImageSource, row: int, rng: np.random.Generator) -> Mapping[str, Tensor]:
        strong = self._strong(images, row, rng)
        weak = draw_view(images.pixels(row), self._weak, rng)
        return {**strong, **self._local(images, row, rng), "global": weak}
