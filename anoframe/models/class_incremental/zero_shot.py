"""Zero-shot classification by text features: the floor of every class-incremental method on the same encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anoframe.models.class_incremental.text_learner import TextLearner
from anoframe.models.learner import Observation, Phase


class ZeroShot(TextLearner):
    """Scaled cosine with the text feature of each class. With prototypes as text this is a nearest-prototype rule."""

    def training_stages(self) -> Sequence[Observation | Phase]:
        return self.text_stages()

    @torch.no_grad()
    def logits(self, features: Tensor, jointly: bool = False) -> Tensor:
        return (self.scale * self.unit_features(features) @ self.text_features().T)[None]

    def num_learned_values(self) -> int:
        return self.text_means.numel() if self.text.from_images else 0
