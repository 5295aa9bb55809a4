"""One image at a time, as many at once as there are threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def each_alone(function: Callable[[Tensor], T], batch: Tensor) -> list[T]:
    """`[function(batch[i:i+1]) for each i]`, without gradients.

    On a CPU the results do not depend on the batch, nor on the number of threads, to the bit: kernels, and with them
    the rounding, are chosen by shapes and threads, and here each call sees one image and one thread. Images in parallel
    also take less time than threads inside of each operation: they never wait for one another.
    """
    if batch.device.type != "cpu":
        return [function(one) for one in batch.split(1)]

    def alone(one: Tensor) -> T:
        with torch.no_grad():  # grad mode belongs to a thread
            return function(one)

    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(alone, batch.split(1)))
    finally:
        torch.set_num_threads(threads)  # what a worker sets is also what threads made later start with
