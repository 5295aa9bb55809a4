"""Features of labelled images, computed once by a frozen encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anoframe.data.labelled.base import LabelledImages
from anoframe.errors import AnoframeError
from anoframe.evaluation.classification.kept_features import KeptFeatures
from anoframe.utils.progress import progress

BLOCK = 1024  # images per block of kept features, rounded down to whole batches


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


def extract_features(
    encoder: nn.Module,
    images: LabelledImages,
    classes: Sequence[str],
    batch_size: int,
    title: str = "features",
    kept: KeptFeatures | None = None,
) -> LabelledFeatures:
    """Encode all images, each once, in eval mode; neither weights nor statistics of the encoder change.

    Args:
        encoder: on its device, maps uint8 `[B, 3, H, W]` to `[B, D]`.
        images: with samples whose category is their class.
        classes: of the training images.
        batch_size: images per forward pass.
        title: of the progress bar.
        kept: features that are not computed again; the others are added to it.

    Raises:
        AnoframeError: an image of another class.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    if unknown := sorted({sample.category for sample in images.samples} - set(numbers)):
        raise AnoframeError(
            f"test images of classes without training images: {', '.join(unknown[:5])}; correct the data"
        )
    encoder.eval()
    batches = -(-len(images) // batch_size)
    features = torch.cat(list(progress(_encode(encoder, images, batch_size, kept), title, "batch", batches)))
    labels = torch.tensor([numbers[sample.category] for sample in images.samples])
    return LabelledFeatures(features, labels, tuple(classes))


def _encode(encoder: nn.Module, images: LabelledImages, batch_size: int, kept: KeptFeatures | None) -> Iterator[Tensor]:
    """Yield the features of each batch. Blocks have whole batches: a network may round by the size of the batch."""
    size = max(1, BLOCK // batch_size) * batch_size
    for start in range(0, len(images), size):
        block = range(start, min(start + size, len(images)))
        if kept and (stored := kept.read(block)) is not None:
            yield from stored.split(batch_size)
            continue
        outputs = []
        for rows in (block[i : i + batch_size] for i in range(0, len(block), batch_size)):
            outputs.append(_encode_batch(encoder, images, rows))
            yield outputs[-1]
        if kept:
            kept.write(block, torch.cat(outputs))


@torch.no_grad()
def _encode_batch(encoder: nn.Module, images: LabelledImages, rows: range) -> Tensor:
    """Compute the features `[len(rows), D]`, float32 on the CPU."""
    pixels = torch.stack([images.pixels(row) for row in rows]).to(next(encoder.buffers()).device)
    features: Tensor = encoder(pixels)
    return features.float().cpu()


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
