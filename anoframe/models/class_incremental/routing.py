"""Routing by task anchors: the samples or the prior of a task depend on how near an image is to its training images.

No part of CLAP4CLIP (Jha et al., NeurIPS 2024): a variant of it has routing that reads labels of test images. This one
does not: an anchor is the mean direction of the new training images of a task, and is never changed at a test.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.class_incremental.settings import RoutingSettings


def anchor_weights(images: Tensor, anchors: Tensor, temperature: float) -> Tensor:
    """Compute the weight of each task for each image: a softmax over cosines, `[B, T]`.

    Args:
        images: `[B, d]` unit vectors.
        anchors: `[T, d]` unit vectors.
        temperature: of the softmax.
    """
    return (images @ anchors.T / temperature).softmax(-1)


def allocate_samples(weights: Tensor, samples: int) -> Tensor:
    """Allocate samples to tasks: one each, and the others by weight, with the largest remainders rounded up.

    Args:
        weights: `[B, T]`, each row sums to 1.
        samples: S, in total.

    Returns:
        `[B, T]` int64; each row sums to S.

    Raises:
        AnoframeError: fewer samples than tasks.

    >>> allocate_samples(torch.tensor([[0.5, 0.3, 0.2]]), 6).tolist()
    [[3, 2, 1]]
    """
    tasks = weights.shape[1]
    if samples < tasks:
        raise AnoframeError(
            f"model.classifier.routing.mode alloc gives each of {tasks} tasks a sample, and "
            f"model.classifier.posterior.samples is {samples}: raise it, or use another mode"
        )
    shares = weights.double() * (samples - tasks)
    whole = (shares + 1e-9).floor()  # 0.3 * 10 is a little below 3
    rank = (shares - whole).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    missing = samples - tasks - whole.sum(1, keepdim=True)
    return (1 + whole + (rank < missing)).long()


def route(
    logits: Tensor, images: Tensor, anchors: Tensor, task: Tensor, settings: RoutingSettings, jointly: bool
) -> Tensor:
    """Apply the routing to logits.

    Args:
        logits: `[S, B, C]`.
        images: `[B, d]` unit vectors.
        anchors: `[T, d]` unit vectors.
        task: `[C]` int64, the task of each class.
        settings: of the routing.
        jointly: whether the images are computed together, so that weights can be those of the batch.

    Returns:
        `[S, B, C]`; for `alloc` `[1, B, C]`, the mean over the samples that each task has for an image.
    """
    if settings.mode == "none":
        return logits
    weights = anchor_weights(images, anchors, settings.temperature)  # [B, T]
    if settings.unit == "batch" and jointly:
        weights = weights.mean(0, keepdim=True).expand_as(weights)
    if settings.mode == "prior":
        return logits + settings.weight * weights.clamp(min=1e-30).log()[:, task]
    counts = allocate_samples(weights, len(logits))[:, task]  # [B, C]
    sums = logits.double().cumsum(0)  # a task uses the first of its samples, which are independent of each other
    return (sums.gather(0, counts[None] - 1) / counts).to(logits.dtype)


def mean_direction(images: Tensor) -> Tensor:
    """Return the unit vector along the mean of unit vectors `[N, d]`, `[d]`: the anchor of a task."""
    return F.normalize(images.double().mean(0), dim=0).to(images.dtype)
