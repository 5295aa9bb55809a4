"""Several processes that work on one run, as torchrun starts them: one a device, on one machine or on several.

Rank 0 leads: it alone decides, writes and tells; the others follow in lockstep, and take part in what is shared. Where
torchrun started nothing a process is alone, and every function here does nothing. What is sent between processes as an
object is pickled, so processes must trust each other, as torch itself requires.
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

TIMEOUT = timedelta(minutes=30)  # how long a process waits for the others: rank 0 alone measures, draws and writes
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_SPOKEN = "spoken"  # key of the store: how many processes had an error to tell

_group: Group | None = None
_store: Any = None


@dataclass(frozen=True)
class Group:
    """The processes of a run, as one of them sees them; by default it is alone.

    Every process must call the same methods in the same order.

    Attributes:
        device: of this process.
        rank: its number, counted over all machines; 0 leads.
        size: how many processes there are.
        local_rank: its number on this machine.
        local_size: how many there are on this machine.
    """

    device: torch.device
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def is_single(self) -> bool:
        return self.size == 1

    def barrier(self) -> None:
        """Wait until all are here."""
        self.all_reduce_values([0.0])

    def broadcast(self, item: T) -> T:
        """What rank 0 gives; what the others give is ignored."""
        if self.is_single:
            return item
        import torch.distributed as dist

        box = [item if self.is_main else None]
        dist.broadcast_object_list(box, src=0)
        found: Any = box[0]
        return found

    def all_gather(self, item: T) -> list[T]:
        """What each gives, in the order of ranks, to all of them."""
        if self.is_single:
            return [item]
        import torch.distributed as dist

        box: list[Any] = [None] * self.size
        dist.all_gather_object(box, item)
        return box

    def all_reduce_values(self, values: Sequence[float]) -> list[float]:
        """The sum of each value over all processes."""
        if self.is_single:
            return list(values)
        import torch

        return self.all_reduce(torch.tensor(values, dtype=torch.float64)).tolist()

    def broadcast_flag(self, flag: bool) -> bool:
        """What rank 0 says."""
        return self.all_reduce_values([float(flag and self.is_main)])[0] > 0

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all processes, in its place; no gradient passes."""
        if not self.is_single:
            import torch.distributed as dist

            dist.all_reduce(tensor)
        return tensor

    def broadcast_tensors(self, tensors: Sequence[torch.Tensor]) -> None:
        """Put rank 0's values in the place of everyone's; they have the same shapes everywhere."""
        if not self.is_single:
            import torch
            import torch.distributed as dist

            for tensor in filter(torch.numel, tensors):
                whole = tensor.detach().contiguous()
                dist.broadcast(whole, src=0)
                if whole.data_ptr() != tensor.data_ptr():
                    tensor.detach().copy_(whole)

    def gather_rows(self, own: np.ndarray, rows: Sequence[Sequence[int]]) -> np.ndarray | None:
        """An array of which each process has some rows, whole on rank 0; None on the others.

        Args:
            own: `[k, ...]`, the rows of this process.
            rows: of each process, where its rows belong; together every row from 0 on, once.
        """
        import numpy as np

        if not self.is_main:
            _send(own)
            return None
        whole = np.empty((sum(map(len, rows)), *own.shape[1:]), own.dtype)
        whole[list(rows[0])] = own
        for rank in range(1, self.size):
            if rows[rank]:
                whole[list(rows[rank])] = _receive((len(rows[rank]), *own.shape[1:]), own.dtype, rank)
        return whole

    def shard(self, count: int, size: int) -> list[list[int]]:
        """Rows from 0 to `count - 1` that each process takes: batches of `size`, dealt out one by one.

        Batches stay together, because on a GPU what comes out for an image may depend on how many it is computed with.
        """
        return _shard(count, size, self.size)


def single_process() -> Group:
    """A process by itself, on the CPU."""
    import torch

    return Group(torch.device("cpu"))


def _shard(count: int, size: int, hands: int) -> list[list[int]]:
    batches = [range(start, min(start + size, count)) for start in range(0, count, size)]
    return [[row for batch in batches[hand::hands] for row in batch] for hand in range(hands)]


# ------------------------------------------------------------------------------------------------ joining and leaving


def launched() -> bool:
    """Whether torchrun started this process."""
    return all(name in os.environ for name in _VARIABLES)


def is_local_main() -> bool:
    """Whether this process is the first on its machine, or alone; known before it has joined the others."""
    return not launched() or os.environ["LOCAL_RANK"] == "0"


def is_main_process() -> bool:
    """Whether this process leads, or is alone; known before it has joined the others."""
    return not launched() or os.environ["RANK"] == "0"


def join(device: str) -> Group:
    """The group of this process: alone, or with the others that torchrun started, for whom it waits.

    Args:
        device: as `--device` has it: a device for each process of this machine, or one word for all.

    Raises:
        AnoframeError: a device that this machine lacks, or too few of them; processes of different kinds.
    """
    from anoframe.distributed.devices import choose_device, choose_own_device

    global _group
    if not launched():
        return Group(choose_device(device))
    rank, size, local_rank, local_size = (_number(name) for name in _VARIABLES)
    own = choose_own_device(device, local_rank, local_size)
    if _group is None:
        _group = Group(own, rank, size, local_rank, local_size)
        if size > 1:
            _connect(_group)
    if _group.device != own:
        raise AnoframeError(f"--device {device}: this process works on {_group.device} already")
    return _group


def leave() -> None:
    """Let go of the others, where there are any."""
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
    kinds = group.all_gather(group.device.type)
    if len(set(kinds)) > 1:
        raise AnoframeError(
            f"some processes found a GPU and some did not ({', '.join(kinds)}): --device cpu, or mend it"
        )


def _number(name: str) -> int:
    value = os.environ[name]
    if not value.isdecimal():
        raise AnoframeError(f"the environment says {name}={value!r}, which is no number: start with torchrun")
    return int(value)


# ------------------------------------------------------------------------------------------------ ending on an error


def joined() -> bool:
    """Whether this process works with others now."""
    return _store is not None


def speaks() -> bool:
    """Whether this process tells the user of an error. Of several that fail, often of each other, the first does."""
    if _store is None:
        return is_local_main()  # what goes wrong before they join goes wrong in all of a machine
    try:
        return int(_store.add(_SPOKEN, 1)) == 1
    except Exception:  # the store has gone, and with it whoever else could tell
        return True


def quit_at_once(status: int) -> None:
    """End a process that others may be waiting for, or that may wait for them; return where it is alone.

    Nothing is waited for: torchrun sees the status and ends the others, whatever they are doing.
    """
    if _store is not None:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error only says that another process has gone, or answers no more."""
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

    part = np.empty(shape, dtype)
    if part.nbytes:
        dist.recv(torch.from_numpy(part).view(torch.uint8), src=rank)
    return part
