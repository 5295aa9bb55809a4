"""Features of labelled images, computed once by a frozen encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anoframe.data.labelled.base import LabelledImages
from anoframe.errors import AnoframeError
from anoframe.utils.progress import progress


@dataclass(frozen=True)
class LabelledFeatures:
    """Features with labels.

    Attributes:
        features: `[N, D]` float32 on the CPU.
        labels: `[N]` int64, positions in `classes`.
        classes: names.
    """

    features: Tensor
    labels: Tensor
    classes: tuple[str, ...]


@torch.no_grad()
def extract_features(
    encoder: nn.Module, images: LabelledImages, classes: Sequence[str], batch_size: int, title: str = "features"
) -> LabelledFeatures:
    """Encode all images, each once, in eval mode; neither weights nor statistics of the encoder change.

    Args:
        encoder: on its device, maps uint8 `[B, 3, H, W]` to `[B, D]`.
        images: with samples whose category is their class.
        classes: of the training images.
        batch_size: images per forward pass.
        title: of the progress bar.

    Raises:
        AnoframeError: an image of another class.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    if unknown := sorted({sample.category for sample in images.samples} - set(numbers)):
        raise AnoframeError(
            f"test images of classes without training images: {', '.join(unknown[:5])}; correct the data"
        )
    encoder.eval()
    device = next(encoder.buffers()).device
    starts = range(0, len(images), batch_size)
    outputs = []
    for start in progress(starts, title, unit="batch"):
        rows = range(start, min(start + batch_size, len(images)))
        pixels = torch.stack([images.pixels(row) for row in rows]).to(device)
        outputs.append(encoder(pixels).float().cpu())
    labels = torch.tensor([numbers[sample.category] for sample in images.samples])
    return LabelledFeatures(torch.cat(outputs), labels, tuple(classes))


def accuracy(scores: Tensor, labels: Tensor, k: int) -> float:
    """Share of all samples whose class is among the `k` highest scores; a tie counts as wrong.

    Args:
        scores: `[N, C]`.
        labels: `[N]`.
    """
    own = scores.gather(1, labels[:, None])
    return float(((scores >= own).sum(1) - 1 < k).double().mean())


def accuracies(scores: Tensor, labels: Tensor) -> dict[str, float]:
    """Return `top1` and, with more than five classes, `top5`."""
    return {f"top{k}": accuracy(scores, labels, k) for k in (1, 5) if k < scores.shape[1] or k == 1}
