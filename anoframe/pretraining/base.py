"""Base class of all pretraining methods."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from anoframe.backbones.encoder import Encoder
from anoframe.models.learner import Learner, Phase, TrainingBatch, Views

PHASE = "pretraining"


class Pretraining(Learner):
    """Base class: one phase that trains the encoder and its heads on views of images.

    A subclass sets its heads as attributes and implements `views` and `losses`. Arguments of its class beside
    `encoder`, `views` and `classes` are the keys of the config's `learner` section.

    Attributes:
        encoder: that is trained and exported.
        measurements: names in the result of `losses` that are only reported.
        compares_images: whether the loss compares the images of a batch, so that the size of a batch is a setting of
            the method, and gradient accumulation is not the same as a larger batch.
        needs_classes: whether it learns from the class of each image.
    """

    measurements: ClassVar[Collection[str]] = ()
    compares_images: ClassVar[bool] = False
    needs_classes: ClassVar[bool] = False

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def training_stages(self) -> Sequence[Phase]:
        parameters: Mapping[str, nn.Parameter] = dict(self.named_parameters())
        return [Phase(PHASE, parameters, self.losses, views=self.views(), measurements=self.measurements)]

    @abstractmethod
    def views(self) -> Views:
        """Return what draws the views of an image."""

    @abstractmethod
    def losses(self, batch: TrainingBatch) -> Mapping[str, Tensor]:
        """Compute the losses and measurements of a batch of views; see `Phase.loss`."""

    def facts(self) -> dict[str, str]:
        """Return what the exported encoder says about its training, beside the name of the method."""
        return {}
