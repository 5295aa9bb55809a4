"""Loss of a phase over several processes, each of which computes a shard of every batch.

torch's DistributedDataParallel averages gradients over the processes. To get the gradient of the batch mean from shards
of different sizes, each process multiplies its loss by its share of the images and by the number of processes. A
process whose shard of a small batch would be empty computes the first image of the batch with weight 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from anoframe.distributed.process_group import Group
from anoframe.distributed.sync_batchnorm import SyncState, sync_batchnorm_layers
from anoframe.errors import AnoframeError
from anoframe.models.learner import Learner, Phase, TrainingBatch

Loss = Callable[[TrainingBatch], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Shard:
    """Images of a batch that one process computes.

    Attributes:
        rows: indices of the images, at least one.
        weight: share of the batch's images, in [0, 1]; 0 if the only image belongs to another process.
    """

    rows: Sequence[int]
    weight: float


def shard_batch(rows: Sequence[int], group: Group) -> Shard:
    """The shard of a batch that this process computes. Sizes differ by at most one; the first shards are larger."""
    own = np.array_split(np.arange(len(rows)), group.size)[group.rank]
    if not len(own):
        return Shard(rows[:1], 0.0)
    return Shard([rows[i] for i in own], len(own) / len(rows))


class DistributedLoss:
    """Loss of a phase whose gradients are averaged over the processes of a group; see `distributed_loss`.

    Args:
        phase: only its parameters require gradients.
        loss: `phase.loss`, compiled or not.
        group: processes that train together.
        sync_state: of the synchronised BatchNorm layers; None if no layer is synchronised.
    """

    def __init__(self, phase: Phase, loss: Loss, group: Group, sync_state: SyncState | None = None):
        self._phase, self._loss, self._group, self._sync_state = phase, loss, group, sync_state
        self._module = None if group.is_single else DistributedDataParallel(_LossModule(phase, loss))

    def shard(self, rows: Sequence[int]) -> Shard:
        """The shard of a batch that this process computes."""
        return shard_batch(rows, self._group)

    @contextmanager
    def accumulate(self, shard: Shard, is_last: bool) -> Iterator[None]:
        """Context in which the loss of a shard and its gradient are computed.

        Args:
            is_last: last shard of an optimiser step; its backward pass averages the accumulated gradients over the
                processes.
        """
        if self._sync_state:
            self._sync_state.is_counted = shard.weight > 0
        with nullcontext() if is_last or self._module is None else self._module.no_sync():
            yield

    def __call__(self, batch: TrainingBatch) -> Mapping[str, Tensor]:
        """Losses of this process's shard.

        Raises:
            AnoframeError: some parameters of the phase got no gradient in the previous step.
        """
        if self._module is None:
            return self._loss(batch)
        try:
            losses: Mapping[str, Tensor] = self._module(batch)
        except RuntimeError as error:
            if "finished reduction in the prior iteration" not in str(error):
                raise
            raise AnoframeError(
                f"phase {self._phase.name}: its loss does not use all of its parameters, which training on several "
                "devices requires: name only the trained parameters in the phase, or use one device"
            ) from error
        return losses

    def scale(self, total: Tensor, shard: Shard) -> Tensor:
        """Weight the loss of a shard so that the average over processes is the loss of the whole batch."""
        return total if self._module is None else total * (shard.weight * self._group.size)


@contextmanager
def distributed_loss(
    learner: Learner, phase: Phase, loss: Loss, group: Group, sync_batchnorm: bool
) -> Iterator[DistributedLoss]:
    """Context in which the loss of a phase is computed by all processes of a group.

    Args:
        learner: in train mode.
        phase: that is trained.
        loss: `phase.loss`, compiled or not.
        group: processes that train together.
        sync_batchnorm: synchronise the BatchNorm layers of the learner.
    """
    is_synchronised = sync_batchnorm and not group.is_single
    with sync_batchnorm_layers(learner, group) if is_synchronised else nullcontext(None) as sync_state:
        yield DistributedLoss(phase, loss, group, sync_state)


def sync_learned_state(learner: Learner, group: Group) -> None:
    """Copy the learned state of rank 0 to all processes.

    Parameters are equal already. Buffers may differ, for example those of BatchNorm layers that are not synchronised;
    rank 0 has images in every batch, so its buffers are used.
    """
    with torch.no_grad():
        group.broadcast_tensors(list(learner.learned_state().values()))


def check_multi_device(learner: Learner, protocol: str, option: str) -> None:
    """Check that a learner can be trained on several devices.

    Args:
        learner: unfitted.
        protocol: `protocol.name` of the config.
        option: what requests several devices, for the message.

    Raises:
        AnoframeError: a stream of tasks, a method without a phase, which would repeat the same work on each device, or
            a phase whose loss depends on the whole batch.
    """
    if protocol == "continual":
        raise AnoframeError(f"{option}: a stream of tasks is trained by one process: name one device")
    phases = [stage for stage in learner.training_stages() if isinstance(stage, Phase)]
    if not phases:
        raise AnoframeError(f"{option}: this method trains on one device: name one of them")
    for phase in phases:
        if phase.couples_batch:
            raise AnoframeError(
                f"{option}: in phase {phase.name} the loss of an image depends on its whole batch, of which each "
                "device sees a part: name one device"
            )


class _LossModule(nn.Module):
    """Module with the parameters of a phase whose forward pass computes the losses, for DistributedDataParallel."""

    def __init__(self, phase: Phase, loss: Loss):
        super().__init__()
        self.trained = nn.ParameterList(phase.parameters.values())
        self._compute = partial(loss)  # not a submodule, whose buffers would be broadcast at each step

    def forward(self, batch: TrainingBatch) -> dict[str, Tensor]:
        return dict(self._compute(batch))
