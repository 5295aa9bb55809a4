"""Work on several images at once in threads, each in one thread, so that no result depends on its batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def map_images(function: Callable[[Any], T], batch: Any) -> list[T]:
    """Call `function` on each image of a batch, without gradients.

    On a CPU the results do not depend on the batch or on the number of threads, to the bit: torch chooses kernels, and
    with them the rounding, by shapes and threads, and here each call gets one image and one thread. Images in parallel
    are also faster than threads inside each operation, because they never wait for one another.

    Args:
        function: takes a batch of one image.
        batch: a tensor, or a list, tuple or dict of tensors, whose first axis is the image.

    Returns:
        One result per image, in order.
    """
    if first_tensor(batch).device.type != "cpu":
        return [function(image) for image in _split(batch)]

    def call(image: Any) -> T:
        with torch.no_grad():  # grad mode is per thread
            return function(image)

    return map_in_threads(call, _split(batch))


def map_in_threads(function: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
    """Call `function` on the items in several threads, as many as torch uses; inside each of them torch uses one.

    Returns:
        The results, in order.
    """
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(function, items))
    finally:
        torch.set_num_threads(threads)  # a worker's setting is also the default of threads that start later


def map_images_on_cpu(function: Callable[[Any], T], batch: Any) -> list[T]:
    """`map_images` on a CPU; on another device one call with the whole batch.

    Returns:
        The results: one per image on a CPU, else a single one.
    """
    if first_tensor(batch).device.type != "cpu":
        return [function(batch)]
    return map_images(function, batch)


def first_tensor(tree: Any) -> Tensor:
    """The first tensor of a tensor, list, tuple or dict."""
    while not isinstance(tree, Tensor):
        tree = next(iter(tree.values() if isinstance(tree, dict) else tree))
    return tree


def _split(tree: Any) -> Iterator[Any]:
    """Batches of one image each."""
    return (_take(tree, i) for i in range(len(first_tensor(tree))))


def _take(tree: Any, i: int) -> Any:
    """Image `i` as a batch of one."""
    if isinstance(tree, Tensor):
        return tree[i : i + 1]
    if isinstance(tree, dict):
        return {name: _take(value, i) for name, value in tree.items()}
    return type(tree)(_take(value, i) for value in tree)
