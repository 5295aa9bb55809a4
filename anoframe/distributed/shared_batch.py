"""A batch whose images several processes share, and the embeddings of all of them with their gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from anoframe.distributed.process_group import Group, current_group

if TYPE_CHECKING:
    from torch.autograd.function import FunctionCtx


@dataclass(frozen=True)
class SharedBatch:
    """Which images of a batch belong to which process.

    Attributes:
        group: processes that share the batch.
        counts: number of images of each process; 0 for one that computes an image of another process, see
            `anoframe.training.distributed_loss`.
    """

    group: Group
    counts: tuple[int, ...]

    @property
    def is_counted(self) -> bool:
        """Whether the images of this process belong to the batch."""
        return self.counts[self.group.rank] > 0

    @property
    def total(self) -> int:
        """Number of images in the batch."""
        return sum(self.counts)

    @property
    def start(self) -> int:
        """Position in the batch of the first image of this process."""
        return sum(self.counts[: self.group.rank])

    def num_parts(self, requested: int) -> int:
        """Largest number of parts, up to the requested one, of which none is empty in any process."""
        return max(1, min(requested, *(max(count, 1) for count in self.counts)))

    def gather(self, own: Tensor) -> Tensor:
        """Concatenate the rows `[n, D]` of all processes to `[N, D]`, in the order of ranks.

        The gradient of a row is the sum of its gradients in all processes.
        """
        gathered: Tensor = _Gather.apply(own, self) if not self.group.is_single else own  # type: ignore[no-untyped-call]
        return gathered


def share_batch(rows: Tensor) -> SharedBatch:
    """Find out which images of a batch each process has; every process calls this for each batch.

    Args:
        rows: `[n]` positions of this process's images in the index. A process whose first row is that of rank 0
            has no image of its own.
    """
    group = current_group()
    if group.is_single:
        return SharedBatch(group, (len(rows),))
    table = torch.zeros(group.size, 2, dtype=torch.int64, device=rows.device)
    table[group.rank] = torch.stack([torch.tensor(len(rows), device=rows.device), rows[0]])
    table_rows = group.all_reduce(table).tolist()
    first = table_rows[0][1]
    counts = (count if rank == 0 or row != first else 0 for rank, (count, row) in enumerate(table_rows))
    return SharedBatch(group, tuple(counts))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, own: Tensor, batch: SharedBatch) -> Tensor:
        ctx.batch, ctx.size = batch, len(own)  # type: ignore[attr-defined]
        table = own.new_zeros(batch.total, *own.shape[1:])
        if batch.is_counted:
            table[batch.start : batch.start + len(own)] = own
        return batch.group.all_reduce(table)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        batch: SharedBatch = ctx.batch
        gradient = batch.group.all_reduce(gradients[0].clone(memory_format=torch.contiguous_format))
        if not batch.is_counted:
            return gradient.new_zeros(ctx.size, *gradient.shape[1:]), None
        return gradient[batch.start : batch.start + ctx.size], None
