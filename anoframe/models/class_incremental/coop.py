"""CoOp: learned context vectors before the name of a class, through CLIP's frozen text tower.

Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022; the vectors are shared by all classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.class_incremental.settings import ContextSettings

_STD = 0.02


class ContextPrompts(nn.Module):
    """Text features of `[context vectors] name.`

    Args:
        encoder: CLIP model with `text_width` and `encode_context`.
        settings: number of vectors, and whether each task adds its own, which are then averaged.

    Raises:
        AnoframeError: the encoder has no text tower whose token embeddings can be replaced.
    """

    def __init__(self, encoder: Any, settings: ContextSettings):
        super().__init__()
        if not getattr(encoder, "text_width", 0):
            raise AnoframeError(
                "model.classifier.prompt_style coop learns inputs of CLIP's text tower, and the encoder "
                f"{type(encoder).__name__} has none that takes them: use a model such as open_clip:ViT-B-16, or "
                "--model.classifier.prompt_style hand_crafted"
            )
        self._encoder = (encoder,)  # in a tuple, so that it is no part of this module
        self.settings = settings
        self.vectors = nn.ParameterList([self._new()])
        self._kept: tuple[Any, Tensor] | None = None

    def _new(self) -> nn.Parameter:
        return nn.Parameter(_STD * torch.randn(self.settings.size, self._encoder[0].text_width))

    def resize(self, tasks: int) -> None:
        """Add the vectors of new tasks, or drop those of the last ones, if each task has its own."""
        if not self.settings.expandable:
            return
        device = self.vectors[0].device
        while len(self.vectors) < tasks:
            self.vectors.append(self._new().to(device))
        self.vectors = self.vectors[:tasks]

    def forward(self, names: Sequence[str]) -> Tensor:
        """Return unit text features `[C, d]`; without gradients those of the last call, unless vectors have changed."""
        if torch.is_grad_enabled():
            return self._encode(names)
        key = (tuple(names), [(vectors.data_ptr(), vectors._version) for vectors in self.vectors])
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, self._encode(names))
        return self._kept[1]

    def _encode(self, names: Sequence[str]) -> Tensor:
        context = torch.stack(list(self.vectors)).mean(0)
        return F.normalize(self._encoder[0].encode_context(context, [f"{name}." for name in names]).float(), dim=-1)
