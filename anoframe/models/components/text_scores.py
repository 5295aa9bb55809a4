"""Anomaly scores from text prototypes, and the checks that methods with text prompts share."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from anoframe.errors import AnoframeError


def anomaly_probability(embeddings: Tensor, prototypes: Tensor, tau: float) -> Tensor:
    """Compute the probability of "defective" in a softmax over the cosines with two prototypes, divided by `tau`.

    Args:
        embeddings: `[B, D]` or `[B, N, D]`, unit vectors.
        prototypes: `[B, 2, D]`, unit vectors: normal, defective.
        tau: temperature.

    Returns:
        `[B]` or `[B, N]`, in [0, 1]; 0.5 if both cosines are equal.
    """
    direction = prototypes[:, 1] - prototypes[:, 0]  # the softmax of two values is a sigmoid of their difference
    rows = embeddings.view(embeddings.shape[0], -1, embeddings.shape[-1])
    difference = (rows @ direction[:, :, None]).view(embeddings.shape[:-1])
    return (difference / tau).sigmoid()


def check_text_tower(backbone: nn.Module, method: str) -> None:
    """Raise an AnoframeError if a backbone cannot encode text."""
    if not getattr(backbone, "has_text", False):
        name = getattr(backbone, "name", type(backbone).__name__)
        raise AnoframeError(
            f"{method} compares images with texts, and the backbone {name!r} encodes no text: set model.backbone.name "
            "to a CLIP model, for example open_clip:ViT-B-16-plus-240"
        )


def check_tau(tau: float) -> None:
    """Raise an AnoframeError if a temperature is not positive."""
    if tau <= 0:
        raise AnoframeError(f"model.tau, the temperature of the softmax, is above 0, got {tau}; published is 0.07")


def check_image_side(clip: Any, height: int, width: int) -> None:
    """Raise an AnoframeError if images of this size are not the squares that a CLIP model takes."""
    if (height, width) != (clip.image_size, clip.image_size):
        size = height if height == width else f"{height} x {width}"
        raise AnoframeError(
            f"data.crop is {size}, and {clip.name} takes images of {clip.image_size} pixels: use --data.resize "
            f"{clip.image_size} --data.crop {clip.image_size}"
        )


def check_patch_grid(clip: Any) -> tuple[int, int]:
    """Return the grid of patches of a CLIP model; raise an AnoframeError if its image tower has none."""
    height, width = clip.grid
    if not height * width:
        raise AnoframeError(
            f"the image tower of {clip.name} has no grid of patches that can be encoded in windows: set "
            "model.backbone.name to a vision transformer, for example open_clip:ViT-B-16-plus-240"
        )
    return height, width
