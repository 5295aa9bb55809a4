"""Batch normalisation with the statistics of a batch that is split over several processes.

torch.nn.SyncBatchNorm works on GPUs only, and cannot exclude a process whose shard of the batch is empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from anoframe.distributed.process_group import Group
from anoframe.errors import AnoframeError

_SUPPORTED = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass
class SyncState:
    """State that all synchronised layers of a network share.

    Attributes:
        group: processes whose statistics are combined.
        is_counted: whether the images of this process belong to the batch. If not, they are normalised in the same way,
            but change neither the statistics nor the gradients of the others.
    """

    group: Group
    is_counted: bool = True


@contextmanager
def sync_batchnorm_layers(module: nn.Module, group: Group) -> Iterator[SyncState]:
    """Context in which the BatchNorm layers of a module that are in train mode use the statistics of all processes.

    The layer objects stay the same, with their parameters and buffers; only their class changes within the context.

    Raises:
        AnoframeError: a layer whose class is a subclass of BatchNorm, which may compute more.
    """
    sync_state = SyncState(group)
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.training]
    classes = [type(layer) for layer in layers]
    for layer_class in classes:
        if layer_class not in _SUPPORTED:
            raise AnoframeError(
                f"{layer_class.__name__} cannot be synchronised over devices: --trainer.sync_batchnorm False"
            )
    if layers:
        _exclude_from_compilation()
    try:
        for layer in layers:
            layer.__class__ = SyncBatchNorm
            layer.sync_state = sync_state  # type: ignore[assignment]
        yield sync_state
    finally:
        for layer, layer_class in zip(layers, classes, strict=True):
            layer.__class__ = layer_class
            del layer.sync_state


@cache
def _exclude_from_compilation() -> None:
    """Exclude `SyncBatchNorm` from `torch.compile`, because it waits for other processes.

    Not a decorator of the class: it imports the compiler, which takes as long as the rest of torch.
    """
    SyncBatchNorm.forward = torch.compiler.disable(SyncBatchNorm.forward)  # type: ignore[method-assign]


def is_single_value_error(error: ValueError) -> bool:
    """Whether torch's BatchNorm or `SyncBatchNorm` raised an error because a batch has one value per channel."""
    return "more than 1 value per channel" in str(error)


class SyncBatchNorm(_BatchNorm):
    """`nn.BatchNorm1d` to `nn.BatchNorm3d` over all processes of a group; see `sync_batchnorm_layers`."""

    sync_state: Any

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `[B, C, ...]`; `B` may differ between processes.

        Raises:
            ValueError: the whole batch has one value per channel, so the variance is undefined. Only on a CPU; a GPU is
                not synchronised for this check, and the result is 0.
        """
        if not self.training:
            return super().forward(x)
        sync_state: SyncState = self.sync_state
        count, mean, variance = moments(x, sync_state)
        if x.device.type == "cpu" and count < 2:
            raise ValueError(f"batch normalisation needs more than 1 value per channel, got {list(x.shape)}")
        self._update_running_stats(count, mean, variance)
        dtype = _sum_dtype(x)
        scale = (variance + self.eps).rsqrt().to(dtype)
        result: Any = _Normalise.apply(x, self.weight, self.bias, mean.to(dtype), scale, count.to(dtype), sync_state)
        return result

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any number of dimensions; torch requires this method."""

    @torch.no_grad()
    def _update_running_stats(self, count: Tensor, mean: Tensor, variance: Tensor) -> None:
        """Update the running statistics as torch does, equally in all processes."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_((variance * (count / (count - 1).clamp_min(1))).to(self.running_var.dtype), share)


@torch.no_grad()
def moments(x: Tensor, sync_state: SyncState) -> tuple[Tensor, Tensor, Tensor]:
    """Number of values per channel over all processes, and their mean and biased variance `[C]`, in float64.

    Each process sends its count, its mean and its sum of squared deviations from that mean, which are then combined.
    Sums of squares without the mean subtracted would lose digits if the mean is large.
    """
    values = x.to(_sum_dtype(x))
    axes = _axes(x)
    group, channels = sync_state.group, x.shape[1]
    table = torch.zeros(group.size, 1 + 2 * channels, dtype=torch.float64, device=x.device)
    if sync_state.is_counted:
        own_mean = values.mean(axes, keepdim=True)
        table[group.rank, 0] = x.numel() // channels
        table[group.rank, 1 : 1 + channels] = own_mean.flatten()
        table[group.rank, 1 + channels :] = (values - own_mean).square().sum(axes)
    group.all_reduce(table)
    counts, means, squares = table[:, :1], table[:, 1 : 1 + channels], table[:, 1 + channels :]
    count = counts.sum()
    mean = (counts * means).sum(0) / count
    variance = (squares + counts * (means - mean).square()).sum(0) / count
    return count, mean, variance


class _Normalise(torch.autograd.Function):
    """`(x - mean) * scale * weight + bias`, where mean and scale depend on `x` in all processes.

    The gradient with respect to `x` is that of the sum of the losses of all processes. The gradients of weight and bias
    are this process's part.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        scale: Tensor,
        count: Tensor,
        sync_state: SyncState,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, scale, count)
        ctx.sync_state = sync_state
        normalised = _normalise(x, mean, scale)
        if weight is not None and bias is not None:
            normalised = normalised * _per_channel(weight, x) + _per_channel(bias, x)
        return normalised.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight, mean, scale, count = ctx.saved_tensors
        sync_state: SyncState = ctx.sync_state
        axes = _axes(x)
        normalised = _normalise(x, mean, scale)
        gradient = gradients[0].to(normalised.dtype)
        of_bias, of_weight = gradient.sum(axes), (gradient * normalised).sum(axes)
        factor = scale if weight is None else scale * weight
        means = sync_state.group.all_reduce(torch.stack([of_bias, of_weight])) / count
        of_x = gradient
        if sync_state.is_counted:
            of_x = of_x - _per_channel(means[0], x) - normalised * _per_channel(means[1], x)
        of_x = (of_x * _per_channel(factor, x)).to(x.dtype)
        if weight is None:
            return of_x, None, None, None, None, None, None
        return of_x, of_weight.to(weight.dtype), of_bias.to(weight.dtype), None, None, None, None


def _normalise(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    return (x.to(mean.dtype) - _per_channel(mean, x)) * _per_channel(scale, x)


def _axes(x: Tensor) -> list[int]:
    """All axes but that of the channels."""
    return [axis for axis in range(x.ndim) if axis != 1]


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    """`[C]` reshaped to broadcast with `[B, C, ...]`."""
    return values.view(1, -1, *(1 for _ in range(x.ndim - 2)))


def _sum_dtype(x: Tensor) -> torch.dtype:
    """Number format of sums: never half precision."""
    return torch.promote_types(x.dtype, torch.float32)
