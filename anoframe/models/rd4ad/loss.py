"""Loss and anomaly map of RD4AD: 1 - cosine between the feature maps of teacher and student."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from anoframe.models.components.anomaly_map import upsample

LOSSES = ("flat", "local")
COMBINATIONS = ("sum", "product")


def reverse_distillation_loss(teacher: Sequence[Tensor], student: Sequence[Tensor], kind: str = "flat") -> Tensor:
    """Compute the sum over levels of 1 - cosine, averaged over images.

    Args:
        teacher, student: one map `[B, C_l, h_l, w_l]` per level.
        kind: `"flat"` treats all values of a level as one vector, as the authors' code does; `"local"` averages over
            locations the cosine over channels, as their paper says.

    Returns:
        A scalar, float32 for maps of any type.
    """
    losses = []
    for target, output in zip(teacher, student, strict=True):
        target, output = target.float(), output.float()
        if kind == "flat":
            target, output = target.flatten(1), output.flatten(1)
        losses.append(1 - F.cosine_similarity(target, output, dim=1).mean())
    return torch.stack(losses).sum()


def distillation_map(
    teacher: Sequence[Tensor], student: Sequence[Tensor], size: tuple[int, int], combine: str = "sum"
) -> Tensor:
    """Compute the anomaly map: 1 - cosine over channels, resized to `size`, combined over levels.

    Resizing aligns the corners of a level with the corners of the image (`align_corners=True`).

    Args:
        teacher, student: one map `[B, C_l, h_l, w_l]` per level.
        size: height and width of the map.
        combine: `"sum"` or `"product"` of the levels' maps.

    Returns:
        `[B, H, W]`; in [0, 2n] for the sum of n levels.
    """
    maps = torch.stack(
        [
            upsample(1 - F.cosine_similarity(target.float(), output.float(), dim=1), size, align_corners=True)
            for target, output in zip(teacher, student, strict=True)
        ]
    )
    return maps.sum(0) if combine == "sum" else maps.prod(0)
