"""A fast approximation of WinCLIP's windows. It is not WinCLIP, and its results must not be reported as such."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from anoframe.models.winclip.model import WinCLIP
from anoframe.models.winclip.windows import window_means


class WinCLIPFast(WinCLIP):
    """WinCLIP with windows that are averages of the patch tokens of the whole image, projected to the joint space.

    In WinCLIP, a window is encoded alone: its tokens attend to no other patch. Here the tokens have attended to the
    whole image before, and were not trained to lie in the joint space. One forward pass instead of thirteen.
    """

    def extract_features(self, images: Tensor) -> dict[str, Tensor]:
        tokens = self.clip.image_tokens(images)
        features = {"image": tokens.embedding, "patches": tokens.patches}
        for scale in self.scales:
            features[f"windows{scale}"] = self.clip.project(window_means(tokens.patches, self.grid, scale))
        return {name: F.normalize(value.float(), dim=-1) for name, value in features.items()}

    def encoding(self) -> dict[str, Any] | None:
        return {"version": 1, "scales": list(self.scales), "backbone": self.clip.encoding()}

    def notes(self) -> Sequence[str]:
        return [
            "winclip_fast is not WinCLIP: its windows are averages of the patch tokens of the whole image",
            *super().notes(),
        ]
