"""Compute one image at a time, several at once in threads, so that no result depends on its batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def map_images(function: Callable[[Any], T], batch: Any) -> list[T]:
    """`[function(batch[i:i+1]) for each image i]`, without gradients.

    On a CPU the results do not depend on the batch, nor on the number of threads, to the bit: kernels, and with them
    the rounding, are chosen by shapes and threads, and here each call sees one image and one thread. Images in parallel
    also take less time than threads inside of each operation: they never wait for one another.

    Args:
        function: called with a batch of one image.
        batch: a tensor, or a list, tuple or dict of them, whose first axis is the image.
    """
    if first_tensor(batch).device.type != "cpu":
        return [function(one) for one in _split(batch)]

    def call(one: Any) -> T:
        with torch.no_grad():  # grad mode belongs to a thread
            return function(one)

    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(call, _split(batch)))
    finally:
        torch.set_num_threads(threads)  # what a worker sets is also what threads made later start with


def first_tensor(tree: Any) -> Tensor:
    """The first tensor of a tensor, list, tuple or dict."""
    while not isinstance(tree, Tensor):
        tree = next(iter(tree.values() if isinstance(tree, dict) else tree))
    return tree


def _split(tree: Any) -> Iterator[Any]:
    """Batches of one image."""
    return (_take(tree, i) for i in range(len(first_tensor(tree))))


def _take(tree: Any, i: int) -> Any:
    if isinstance(tree, Tensor):
        return tree[i : i + 1]
    if isinstance(tree, dict):
        return {name: _take(part, i) for name, part in tree.items()}
    return type(tree)(_take(part, i) for part in tree)
