"""Process group of a run: the processes that torchrun started, one per device, on one machine or on several.

Rank 0 is the main process: it alone decides, writes files and prints. The other processes run the same code in lockstep
and take part in collective operations. Without torchrun there is a single process, and the operations do nothing.
Objects are pickled for sending, so processes must trust each other, as torch itself requires.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from anoframe.errors import AnoframeError

if TYPE_CHECKING:
    import numpy as np
    import torch

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)  # others wait so long for rank 0, which alone computes metrics and draws pictures
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_NUM_ERRORS = "num_errors"  # key of the store: number of processes that failed

_group: Group | None = None
_store: Any = None


@dataclass(frozen=True)
class Group:
    """The process group of a run, seen from one of its processes; by default a single process.

    All processes must call the same methods in the same order.

    Attributes:
        device: of this process.
        rank: of this process over all machines; 0 is the main process.
        size: number of processes.
        local_rank: of this process on its machine.
        local_size: number of processes on this machine.
    """

    device: torch.device
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, rank 0."""
        return self.rank == 0

    @property
    def is_single(self) -> bool:
        """Whether there is only one process."""
        return self.size == 1

    def barrier(self) -> None:
        """Wait until all processes have reached this point."""
        self.all_reduce_values([0.0])

    def broadcast(self, item: T) -> T:
        """Return the item of rank 0 in all processes; the items of the others are ignored."""
        if self.is_single:
            return item
        import torch.distributed as dist

        items: list[Any] = [item if self.is_main else None]
        dist.broadcast_object_list(items, src=0)
        result: T = items[0]
        return result

    def all_gather(self, item: T) -> list[T]:
        """Return the items of all processes, in the order of ranks."""
        if self.is_single:
            return [item]
        import torch.distributed as dist

        items: list[Any] = [None] * self.size
        dist.all_gather_object(items, item)
        return items

    def all_reduce_values(self, values: Sequence[float]) -> list[float]:
        """Sum each value over all processes."""
        if self.is_single:
            return list(values)
        import torch

        return self.all_reduce(torch.tensor(values, dtype=torch.float64)).tolist()

    def broadcast_flag(self, flag: bool) -> bool:
        """Return the flag of rank 0 in all processes."""
        return self.all_reduce_values([float(flag and self.is_main)])[0] > 0

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over all processes, in place and without gradient; returns the tensor."""
        if not self.is_single:
            import torch.distributed as dist

            dist.all_reduce(tensor)
        return tensor

    def broadcast_tensors(self, tensors: Sequence[torch.Tensor]) -> None:
        """Overwrite tensors with those of rank 0; shapes must be the same in all processes."""
        if not self.is_single:
            import torch
            import torch.distributed as dist

            for tensor in filter(torch.numel, tensors):
                buffer = tensor.detach().contiguous()
                dist.broadcast(buffer, src=0)
                if buffer.data_ptr() != tensor.data_ptr():
                    tensor.detach().copy_(buffer)

    def gather_rows(self, own: np.ndarray, rows: Sequence[Sequence[int]]) -> np.ndarray | None:
        """Gather an array on rank 0, of which each process has some rows; returns None on the other processes.

        Args:
            own: `[k, ...]`, rows of this process.
            rows: for each process the indices of its rows; together each row from 0 on exactly once.
        """
        import numpy as np

        if not self.is_main:
            _send(own)
            return None
        gathered = np.empty((sum(map(len, rows)), *own.shape[1:]), own.dtype)
        gathered[list(rows[0])] = own
        for rank in range(1, self.size):
            if rows[rank]:
                gathered[list(rows[rank])] = _receive((len(rows[rank]), *own.shape[1:]), own.dtype, rank)
        return gathered

    def shard(self, count: int, size: int) -> list[list[int]]:
        """Indices from 0 to `count - 1` for each process: whole batches of `size`, in turn.

        Batches are not split because on a GPU the result of an image may depend on the batch size.
        """
        return _shard(count, size, self.size)


def single_process() -> Group:
    """Group of a single process on the CPU."""
    import torch

    return Group(torch.device("cpu"))


def _shard(count: int, size: int, num_shards: int) -> list[list[int]]:
    batches = [range(start, min(start + size, count)) for start in range(0, count, size)]
    return [[row for batch in batches[shard::num_shards] for row in batch] for shard in range(num_shards)]


# ------------------------------------------------------------------------------------------------ joining and leaving


def is_torchrun_process() -> bool:
    """Whether torchrun started this process."""
    return all(name in os.environ for name in _VARIABLES)


def is_local_main() -> bool:
    """Whether this is the first process on its machine, or the only one; works before `join`."""
    return not is_torchrun_process() or os.environ["LOCAL_RANK"] == "0"


def is_main_process() -> bool:
    """Whether this is rank 0, or the only process; works before `join`."""
    return not is_torchrun_process() or os.environ["RANK"] == "0"


def join(device: str) -> Group:
    """Join the process group: wait for the other processes that torchrun started, if there are any.

    Args:
        device: value of `--device`: one name per process of this machine, or one name for all.

    Returns:
        The same group at every call, until `leave`.

    Raises:
        AnoframeError: a device does not exist on this machine, there are too few devices, processes have devices of
            different types, or this process has joined with another device.
    """
    from anoframe.distributed.devices import choose_device, choose_own_device

    global _group
    if not is_torchrun_process():
        return Group(choose_device(device))
    rank, size, local_rank, local_size = (_read_number(name) for name in _VARIABLES)
    own = choose_own_device(device, local_rank, local_size)
    if _group is None:
        _group = Group(own, rank, size, local_rank, local_size)
        if size > 1:
            _connect(_group)
    if _group.device != own:
        raise AnoframeError(f"--device {device}: this process already uses {_group.device}")
    return _group


def current_group() -> Group:
    """Return the group that this process has joined; a group of one process if it has joined none."""
    return _group or single_process()


def leave() -> None:
    """Leave the process group."""
    global _group, _store
    if _store is not None:
        import torch.distributed as dist

        dist.destroy_process_group()
    _group = _store = None


def _connect(group: Group) -> None:
    import torch
    import torch.distributed as dist

    global _store
    if group.device.type == "cuda":
        torch.cuda.set_device(group.device)
    _store, *_ = next(dist.rendezvous("env://", timeout=TIMEOUT))
    backends = "cpu:gloo,cuda:nccl" if group.device.type == "cuda" else "gloo"
    store = dist.PrefixStore("group", _store)
    dist.init_process_group(backends, store=store, rank=group.rank, world_size=group.size, timeout=TIMEOUT)
    atexit.register(leave)
    types = group.all_gather(group.device.type)
    if len(set(types)) > 1:
        raise AnoframeError(
            f"some processes have a GPU and some have none ({', '.join(types)}): repair the machine without a GPU, or "
            "--device cpu"
        )


def _read_number(name: str) -> int:
    value = os.environ[name]
    if not value.isdecimal():
        raise AnoframeError(f"the environment variable {name} must be a number, got {name}={value!r}: use torchrun")
    return int(value)


# ------------------------------------------------------------------------------------------------ ending on an error


def is_joined() -> bool:
    """Whether this process has joined a group of several processes."""
    return _store is not None


def should_report_error() -> bool:
    """Whether this process prints its error; call it once. Of several processes that fail the first one prints.

    The failure of one process often makes the others fail as well.
    """
    if _store is None:
        return is_local_main()  # an error before `join` occurs in all processes of a machine
    try:
        return int(_store.add(_NUM_ERRORS, 1)) == 1
    except Exception:  # the process that held the store has ended, so nobody else prints
        return True


def exit_immediately(status: int) -> None:
    """End this process without waiting for others, which may wait for it; return if it is the only process.

    torchrun sees the exit status and ends the other processes, whatever they are doing.
    """
    if _store is not None:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error only says that another process has ended or no longer answers."""
    if _store is None or not isinstance(error, RuntimeError):
        return False
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or "gloo" in str(error) or "NCCL" in str(error)


# ------------------------------------------------------------------------------------------------ arrays


def _send(own: np.ndarray) -> None:
    import numpy as np
    import torch
    import torch.distributed as dist

    if own.nbytes:
        dist.send(torch.from_numpy(np.ascontiguousarray(own)).view(torch.uint8), dst=0)


def _receive(shape: tuple[int, ...], dtype: np.dtype, rank: int) -> np.ndarray:
    import numpy as np
    import torch
    import torch.distributed as dist

    rows = np.empty(shape, dtype)
    if rows.nbytes:
        dist.recv(torch.from_numpy(rows).view(torch.uint8), src=rank)
    return rows
