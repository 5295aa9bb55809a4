"""CLIP with one normal and one defective prompt: the simplest zero-shot baseline, for image scores only.

This is what some papers compare with under the name WinCLIP (RAML's public code does). WinCLIP has 242 prompts and
windows, see :mod:`anoframe.models.winclip.model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.base import Detector, Features
from anoframe.models.components.prompts import PromptSet, TextPrototypes
from anoframe.models.components.text_scores import anomaly_probability, check_image_side, check_tau, check_text_tower
from anoframe.types import Prediction


class CLIPSinglePrompt(Detector):
    """Probability of the defective prompt, from the embedding of the whole image. There is no anomaly map.

    Args:
        backbone: CLIP model with a text tower (`open_clip:NAME`).
        normal_prompt: with `{}` for the category.
        defect_prompt: with `{}` for the category.
        tau: temperature of the softmax; the ranking of scores does not depend on it.
        raw_names: use names of categories as they are, `metal_nut`; otherwise "_" becomes a space.
    """

    uses_category = True
    scores_whole_images = True
    has_maps = False
    accepts_new_categories = True
    needs_text = True  # of the backbone

    def __init__(
        self,
        backbone: nn.Module,
        normal_prompt: str = "a photo of a flawless {}",
        defect_prompt: str = "a photo of a damaged {}",
        tau: float = 0.07,
        raw_names: bool = False,
    ):
        super().__init__(backbone)
        check_text_tower(backbone, "clip_single_prompt")
        check_tau(tau)
        for key, prompt in (("normal_prompt", normal_prompt), ("defect_prompt", defect_prompt)):
            if prompt.count("{}") != 1:
                raise AnoframeError(f"model.{key} must contain {{}} once, for the category, got {prompt!r}")
        self.tau = tau
        self.prompts = PromptSet(("{}",), (normal_prompt,), (defect_prompt,), full_stop=False, raw_names=raw_names)
        self._prototypes = TextPrototypes(self.clip, self.prompts, "normalised")

    @property
    def clip(self) -> Any:
        """The backbone, with the methods of a CLIP model."""
        return self.backbone

    def extract_features(self, images: Tensor) -> Tensor:
        """Compute the unit embeddings of whole images, `[B, D]`."""
        return F.normalize(self.clip(images).float(), dim=-1)

    def encoding(self) -> dict[str, Any] | None:
        return {"version": 1, "backbone": self.clip.encoding()}

    def check_image_size(self, height: int, width: int) -> None:
        check_image_side(self.clip, height, width)

    def add_category(self, features: Features, categories: Sequence[str]) -> Features:
        """Return `image [B, D]` and `text [B, 2, D]`."""
        return {"image": features, "text": self._prototypes.of(categories).to(features.device)}

    def compute_prediction(self, features: Features, size: tuple[int, int]) -> Prediction:
        return Prediction(anomaly_probability(features["image"], features["text"], self.tau))

    def notes(self) -> Sequence[str]:
        return ["clip_single_prompt is not WinCLIP: two prompts, the embedding of the whole image, and no anomaly map"]
