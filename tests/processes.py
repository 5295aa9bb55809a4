"""Runs a function in several processes that have joined as torchrun would have them join, on the CPU."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any

SECONDS = 120  # after which processes are taken to hang

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["anoframe.runs.api", "timm", "torchvision"])  # imported once, not in each process


class Ended(Exception):
    """A process that gave nothing back; holds each one's exit status."""


def together(function: Callable[..., Any], *args: Any, size: int = 2, join: bool = True) -> list[Any]:
    """What `function(group, *args)` returns in each of `size` processes, in the order of ranks.

    Args:
        function: of a test module; its arguments and results can be pickled.
        join: join the group first; else the function gets None for it.

    Raises:
        Ended: some process ended by itself.
        AssertionError: the function raised in some process; has its traceback.
    """
    import torch.distributed as dist

    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # here, as torchrun has it
    ends = [_context.Pipe(duplex=False) for _ in range(size)]
    processes = [
        _context.Process(target=_work, args=(rank, size, store.port, ends[rank][1], function, args, join))
        for rank in range(size)
    ]
    for process, (_, theirs) in zip(processes, ends, strict=True):
        process.start()
        theirs.close()
    found = [_received(mine) for mine, _ in ends]
    for process in processes:
        process.join(SECONDS)
        assert process.exitcode is not None, "it hangs"
    if any(one is None for one in found):
        raise Ended([process.exitcode for process in processes])
    for worked, value in found:
        assert worked, value
    return [value for _, value in found]


def _received(end: Any) -> tuple[bool, Any] | None:
    try:
        return pickle.loads(end.recv_bytes()) if end.poll(SECONDS) else None
    except EOFError:
        return None


def _send(end: Any, worked: bool, value: Any) -> None:
    end.send_bytes(pickle.dumps((worked, value)))  # tensors by value: torch would share them, from a process that ends


def _work(rank: int, size: int, port: int, end: Any, function: Callable[..., Any], args: Any, join: bool) -> None:
    import torch

    from anoframe.distributed import process_group as distributed

    torch.set_num_threads(1)
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in own.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    try:
        _send(end, True, function(distributed.join("cpu") if join else None, *args))
    except Exception:
        _send(end, False, traceback.format_exc())
    distributed.leave()
