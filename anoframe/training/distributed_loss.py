"""A phase's gradient over several processes: that of the whole batch, of which each process has a part.

torch's DistributedDataParallel averages the gradients of all processes. So that uneven parts give the gradient of the
batch's mean, each process weighs its loss by its share of the images, times the number of processes. A process for
which a small batch has no image left computes along on one of another's, with the weight 0.
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
from anoframe.distributed.sync_batchnorm import Joint, sync_batchnorm_layers
from anoframe.errors import AnoframeError
from anoframe.models.base import Detector, Phase, TrainingBatch

Loss = Callable[[TrainingBatch], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Part:
    """What one process has of a batch.

    Attributes:
        rows: its images, at least one.
        weight: its share of the batch's images; 0 where the image is another's.
    """

    rows: Sequence[int]
    weight: float


def part_of(rows: Sequence[int], group: Group) -> Part:
    """The part of a batch that this process takes: parts are as equal as can be, the first ones larger."""
    own = np.array_split(np.arange(len(rows)), group.size)[group.rank]
    if not len(own):
        return Part(rows[:1], 0.0)
    return Part([rows[i] for i in own], len(own) / len(rows))


class SharedLoss:
    """A phase's loss; its gradients are added up over the processes of a group.

    Args:
        phase: its parameters want gradients already, and no others do.
        loss: `phase.loss`, or that compiled.
    """

    def __init__(self, phase: Phase, loss: Loss, group: Group, joint: Joint | None = None):
        self._phase, self._loss, self._group, self._joint = phase, loss, group, joint
        self._module = None if group.is_single else DistributedDataParallel(_Losses(phase, loss))

    def part(self, rows: Sequence[int]) -> Part:
        """What this process takes of a batch."""
        return part_of(rows, self._group)

    @contextmanager
    def taking(self, part: Part, last: bool) -> Iterator[None]:
        """Within it the loss of a part is computed, and its gradient.

        Args:
            last: of a step: gradients are added up over the processes now, those of earlier parts with them.
        """
        if self._joint:
            self._joint.counted = part.weight > 0
        with nullcontext() if last or self._module is None else self._module.no_sync():
            yield

    def __call__(self, batch: TrainingBatch) -> Mapping[str, Tensor]:
        """The losses of this process's part.

        Raises:
            AnoframeError: some parameters of the phase had no gradient in the step before.
        """
        if self._module is None:
            return self._loss(batch)
        try:
            found: Mapping[str, Tensor] = self._module(batch)
        except RuntimeError as error:
            if "finished reduction in the prior iteration" not in str(error):
                raise
            raise AnoframeError(
                f"phase {self._phase.name}: its loss does not reach all of its parameters, which several devices need: "
                "name in the phase only those that it trains, or use one device"
            ) from error
        return found

    def scaled(self, total: Tensor, part: Part) -> Tensor:
        """A part's loss as it enters the gradient: averaged over processes it is that of the whole batch."""
        return total if self._module is None else total * (part.weight * self._group.size)


@contextmanager
def shared_loss(
    detector: Detector, phase: Phase, loss: Loss, group: Group, sync_batchnorm: bool
) -> Iterator[SharedLoss]:
    """Share a phase's loss while it trains.

    Args:
        detector: in train mode; its BatchNorm layers are synchronised meanwhile, where that is asked for.
    """
    with (
        nullcontext(None) if group.is_single or not sync_batchnorm else sync_batchnorm_layers(detector, group) as joint
    ):
        yield SharedLoss(phase, loss, group, joint)


def settle(detector: Detector, group: Group) -> None:
    """Give every process what rank 0 has learned.

    Parameters are equal already. Buffers are where each process kept its own, as BatchNorm does when it is not
    synchronised; those of rank 0 count, which has part in every batch.
    """
    with torch.no_grad():
        group.broadcast_tensors(list(detector.learned_state().values()))


def check_several(detector: Detector, protocol: str, asked: str) -> None:
    """Raise AnoframeError for what is not learned on several devices.

    That is a stream of tasks, and a method that has nothing to train and would do all the same on each device.

    Args:
        protocol: `protocol.name` of the config.
        asked: what asks for several, for the message.
    """
    if protocol == "continual":
        raise AnoframeError(f"{asked}: a stream of tasks is learned by one process, name one device")
    if not any(isinstance(step, Phase) for step in detector.training_stages()):
        raise AnoframeError(f"{asked}: this method runs on one device, name one of them")


class _Losses(nn.Module):
    """What DistributedDataParallel asks for: a module that has the parameters, and computes the losses."""

    def __init__(self, phase: Phase, loss: Loss):
        super().__init__()
        self.trained = nn.ParameterList(phase.parameters.values())
        self._compute = partial(loss)  # no module, whose buffers would be sent about at each step

    def forward(self, batch: TrainingBatch) -> dict[str, Tensor]:
        return dict(self._compute(batch))
