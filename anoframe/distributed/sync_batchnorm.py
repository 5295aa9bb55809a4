"""Batch normalisation by the statistics of a whole batch that is spread over several processes.

torch.nn.SyncBatchNorm does the same on GPUs alone, and cannot leave out a process that has no image of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from anoframe.distributed.process_group import Group
from anoframe.errors import AnoframeError

_KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass
class Joint:
    """What all layers of a network share.

    Attributes:
        counted: whether the images of this process are part of the batch. Where not they are normalised as if they
            were, and change neither statistics nor gradients of the others.
    """

    group: Group
    counted: bool = True


@contextmanager
def sync_batchnorm_layers(module: nn.Module, group: Group) -> Iterator[Joint]:
    """Let the BatchNorm layers of a module, in train mode, use the statistics of all processes; afterwards as before.

    The layers stay the objects that they are, with their parameters and buffers, and change their class for a while.

    Raises:
        AnoframeError: a layer that computes more than BatchNorm, in a class of its own.
    """
    joint = Joint(group)
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.training]
    kinds = [type(layer) for layer in layers]
    for kind in kinds:
        if kind not in _KINDS:
            raise AnoframeError(f"{kind.__name__} cannot be synchronised over devices: --trainer.sync_batchnorm False")
    try:
        for layer in layers:
            layer.__class__ = SyncBatchNorm
            layer.joint = joint  # type: ignore[assignment]
        yield joint
    finally:
        for layer, kind in zip(layers, kinds, strict=True):
            layer.__class__ = kind
            del layer.joint


def is_single_value(error: ValueError) -> bool:
    """Whether batch normalisation, torch's or the one here, refused a batch that has one value a channel."""
    return "more than 1 value per channel" in str(error) or "more than one value a channel" in str(error)


class SyncBatchNorm(_BatchNorm):
    """`nn.BatchNorm1d` to `3d` over all processes of a group; made by `sync_batchnorm_layers`."""

    joint: Any

    @torch.compiler.disable  # type: ignore[misc]  # processes wait for each other in it, which cannot be traced
    def forward(self, x: Tensor) -> Tensor:
        """Normalise `[B, C, ...]`; `B` may differ between processes.

        Raises:
            ValueError: the whole batch has one value a channel, whose variance is none. On a GPU, which is not waited
                for, it comes out as 0 instead.
        """
        if not self.training:
            return super().forward(x)
        joint: Joint = self.joint
        count, mean, variance = moments(x, joint)
        if x.device.type == "cpu" and count < 2:
            raise ValueError(f"batch normalisation wants more than one value a channel, got {list(x.shape)}")
        self._follow(count, mean, variance)
        wide = _wide(x)
        scale = (variance + self.eps).rsqrt().to(wide)
        normal: Any = _Normalise.apply(x, self.weight, self.bias, mean.to(wide), scale, count.to(wide), joint)
        return normal

    def _check_input_dim(self, input: Tensor) -> None:
        """What torch asks of each number of dimensions; here any will do."""

    @torch.no_grad()
    def _follow(self, count: Tensor, mean: Tensor, variance: Tensor) -> None:
        """Running statistics, as torch keeps them: the same in all processes."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_((variance * (count / (count - 1).clamp_min(1))).to(self.running_var.dtype), share)


@torch.no_grad()
def moments(x: Tensor, joint: Joint) -> tuple[Tensor, Tensor, Tensor]:
    """Number of values a channel over all processes, their mean and variance `[C]` (biased), in float64.

    Each process sends its own count, mean and sum of squares about that mean, which are then combined: sums of squares
    about zero would lose digits where the mean is large.
    """
    wide = x.to(_wide(x))
    axes = _axes(x)
    group, channels = joint.group, x.shape[1]
    table = torch.zeros(group.size, 1 + 2 * channels, dtype=torch.float64, device=x.device)
    if joint.counted:
        own = wide.mean(axes, keepdim=True)
        table[group.rank, 0] = x.numel() // channels
        table[group.rank, 1 : 1 + channels] = own.flatten()
        table[group.rank, 1 + channels :] = (wide - own).square().sum(axes)
    group.all_reduce(table)
    counts, means, squares = table[:, :1], table[:, 1 : 1 + channels], table[:, 1 + channels :]
    count = counts.sum()
    mean = (counts * means).sum(0) / count
    variance = (squares + counts * (means - mean).square()).sum(0) / count
    return count, mean, variance


class _Normalise(torch.autograd.Function):
    """`(x - mean) * scale * weight + bias`, where mean and scale are functions of the `x` of all processes.

    The gradient of the sum of all processes' losses; of weight and bias this process's part of it.
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
        joint: Joint,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, scale, count)
        ctx.joint = joint
        normal = _normal(x, mean, scale)
        if weight is not None and bias is not None:
            normal = normal * _column(weight, x) + _column(bias, x)
        return normal.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight, mean, scale, count = ctx.saved_tensors
        joint: Joint = ctx.joint
        axes = _axes(x)
        normal = _normal(x, mean, scale)
        gradient = gradients[0].to(normal.dtype)
        to_bias, to_weight = gradient.sum(axes), (gradient * normal).sum(axes)
        factor = scale if weight is None else scale * weight
        totals = joint.group.all_reduce(torch.stack([to_bias, to_weight])) / count
        found = gradient
        if joint.counted:
            found = found - _column(totals[0], x) - normal * _column(totals[1], x)
        found = (found * _column(factor, x)).to(x.dtype)
        if weight is None:
            return found, None, None, None, None, None, None
        return found, to_weight.to(weight.dtype), to_bias.to(weight.dtype), None, None, None, None


def _normal(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    return (x.to(mean.dtype) - _column(mean, x)) * _column(scale, x)


def _axes(x: Tensor) -> list[int]:
    return [axis for axis in range(x.ndim) if axis != 1]


def _column(values: Tensor, x: Tensor) -> Tensor:
    """`[C]`, to be combined with `[B, C, ...]`."""
    return values.view(1, -1, *(1 for _ in range(x.ndim - 2)))


def _wide(x: Tensor) -> torch.dtype:
    """What sums are taken in: never half precision."""
    return torch.promote_types(x.dtype, torch.float32)
