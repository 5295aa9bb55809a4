"""One vector per image from any frozen encoder: CLIP, or a timm pyramid whose levels are pooled."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anoframe.errors import AnoframeError

IMAGES_PER_PASS = 64  # memory: a CLIP ViT-B/16 at 224 pixels holds under 0.3 GB of activations for so many crops


def has_text(backbone: nn.Module) -> bool:
    """Return whether a backbone has a text tower."""
    return bool(getattr(backbone, "has_text", False))


def embedding_width(backbone: nn.Module) -> int:
    """Return the width D of :func:`embed`.

    Raises:
        AnoframeError: the backbone has neither `embed_dim` nor `channels`.
    """
    if hasattr(backbone, "embed_dim"):
        return int(backbone.embed_dim)  # type: ignore[arg-type]
    channels = getattr(backbone, "channels", None)
    if channels is None:
        raise AnoframeError(
            f"one vector per image needs a backbone with `embed_dim` (CLIP) or `channels` (one number per level); "
            f"{type(backbone).__name__} has none"
        )
    return sum(channels)


def embed(backbone: nn.Module, images: Tensor) -> Tensor:
    """Compute one vector per image.

    Args:
        backbone: returns an embedding `[B, D]`, or feature maps `[B, C, h, w]` of several levels, whose means over all
            positions are concatenated.
        images: `[N, 3, H, W]`, or crops of images. At most 64 at a time go through the backbone, which bounds the
            memory on a GPU.

    Returns:
        `[N, D]` float32, not normalised.
    """
    if torch.compiler.is_exporting():  # one graph for any number of images
        return _embed(backbone, images)
    return torch.cat([_embed(backbone, chunk) for chunk in images.split(IMAGES_PER_PASS)])


def _embed(backbone: nn.Module, images: Tensor) -> Tensor:
    features = backbone(images)
    if isinstance(features, Tensor):
        return features.float()
    return torch.cat([level.float().mean((2, 3)) for level in features], 1)
