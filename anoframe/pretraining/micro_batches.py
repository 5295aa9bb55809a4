"""Forward pass in micro-batches with the exact gradient of the whole batch, for losses that compare its images.

Each micro-batch is computed twice: once for its outputs, and once more in the backward pass, when its activations are
needed. So memory holds the activations of one micro-batch and the outputs of all, and the gradient is that of a loss of
all outputs together, which gradient accumulation cannot give: its negatives come from its own part only.

BatchNorm normalises each micro-batch by its own statistics, as it would if the whole batch were spread over as many
devices. Its running statistics are updated once per micro-batch, in the first computation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def forward_views(network: nn.Module, views: Sequence[Tensor], parts: int = 1) -> list[Tensor]:
    """Compute the outputs of several views, all views of an image in the same micro-batch.

    Args:
        network: maps `[B, ...]` to a tensor `[B, ...]`.
        views: tensors of the same shape `[N, ...]`.
        parts: number of micro-batches; 1 computes everything at once. At most N.

    Returns:
        One tensor `[N, ...]` per view.
    """
    outputs: list[Sequence[Tensor]] = []
    for chunk in zip(*(view.tensor_split(parts) for view in views), strict=True):
        pixels = torch.cat(chunk)
        if parts == 1:
            output = network(pixels)
        else:
            output = checkpoint(network, pixels, use_reentrant=False, context_fn=partial(_contexts, network))
        outputs.append(output.chunk(len(views)))
    return [torch.cat(view) for view in zip(*outputs, strict=True)]


def _contexts(network: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of the first and of the second computation."""
    return nullcontext(), keep_statistics(network)


@contextmanager
def keep_statistics(network: nn.Module) -> Iterator[None]:
    """Context in which BatchNorm layers in train mode normalise as always and do not change their running statistics.

    The statistics are passed to the layers nevertheless: the two computations of `checkpoint` must save the same
    tensors.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm) and layer.training]
    before = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked = layer.num_batches_tracked.clone()
    try:
        yield
    finally:
        for layer, (momentum, count) in zip(layers, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, count
