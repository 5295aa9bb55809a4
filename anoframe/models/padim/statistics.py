"""Mean and covariance of the vectors at each position, in one pass over the images and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from anoframe.models.padim.whitening import pack, packed_size, unpack_symmetric
from anoframe.utils.parallel import map_images

T = TypeVar("T")
# Images that are collected before they are added to the sums, where not all images are kept.
_COLLECTED = 64
# Values of the matrices that are computed at a time: 16 MB of float64.
_CHUNK = 2**21


class PositionStatistics:
    """Mean and scatter (sum of outer products of deviations) at each position.

    Vectors are collected in float32. If keeping those of all images takes less memory than sums, nothing else is kept.
    Otherwise, after every `_COLLECTED` images, mean and scatter are updated in float64 by the pairwise formula of Chan,
    Golub and LeVeque (1979): with sets A and B of m and n vectors, and delta = mean_B - mean_A,

        scatter = scatter_A + scatter_B + (m n / (m + n)) delta delta^T.

    No large sums are subtracted from one another, so a constant in the features costs no precision.
    The result does not depend on how images are divided into batches or on the number of threads, to the bit.

    Args:
        images: number of images that will be added, at most.
        positions: number of positions `P`.
        width: number of values `d` at each position.
        device: where the vectors are.
    """

    def __init__(self, images: int, positions: int, width: int, device: torch.device):
        self.positions, self.width = positions, width
        self._capacity, with_sums = _plan(images, width)
        self._collected = torch.empty(positions, self._capacity, width, device=device)
        self._num_collected, self._num_summed = 0, 0
        rows = positions if with_sums else 0
        self._mean = torch.zeros(rows, width, dtype=torch.float64, device=device)
        self._scatter = torch.zeros(rows, packed_size(width), dtype=torch.float64, device=device)

    @staticmethod
    def memory(images: int, positions: int, width: int) -> int:
        """Bytes that are held, and bytes of intermediate results."""
        capacity, with_sums = _plan(images, width)
        sums = _sums(width) if with_sums else 0
        return positions * (4 * capacity * width + sums) + torch.get_num_threads() * 8 * 6 * max(_CHUNK, width**2)

    @property
    def count(self) -> int:
        """Number of images so far."""
        return self._num_summed + self._num_collected

    def add(self, vectors: Tensor) -> None:
        """Add `[B, P, d]`."""
        for part in vectors.split(1):
            if self._num_collected == self._capacity:
                self._add_to_sums()
            self._collected[:, self._num_collected] = part[0]
            self._num_collected += 1

    def map(self, function: Callable[[Tensor, Tensor], T]) -> list[T]:
        """Call `function(mean [p, d], covariance [p, d, d])`, float64 and unbiased, on groups of positions in order.

        Several groups are computed in parallel, each by one thread.
        """

        def call(positions: slice) -> T:
            mean, scatter = self._merge(positions)
            return function(mean, scatter / (self.count - 1))

        return self._map_positions(call)

    def _add_to_sums(self) -> None:
        def update(positions: slice) -> None:
            mean, scatter = self._merge(positions)
            self._mean[positions], self._scatter[positions] = mean, pack(scatter)

        self._map_positions(update)
        self._num_summed, self._num_collected = self.count, 0

    def _merge(self, positions: slice) -> tuple[Tensor, Tensor]:
        """Mean `[p, d]` and scatter `[p, d, d]` of all images so far, at some positions."""
        vectors = self._collected[positions, : self._num_collected].double()  # [p, n, d]
        mean = vectors.mean(1)
        vectors -= mean[:, None]
        scatter = vectors.mT @ vectors
        if not self._num_summed:
            return mean, scatter
        share = self._num_collected / self.count
        delta = mean - self._mean[positions]
        scatter += unpack_symmetric(self._scatter[positions], self.width)
        scatter += (self._num_summed * share) * delta[:, :, None] * delta[:, None, :]
        return self._mean[positions] + share * delta, scatter

    def _map_positions(self, function: Callable[[slice], T]) -> list[T]:
        size = max(1, _CHUNK // self.width**2)
        starts = torch.arange(0, self.positions, size)
        return map_images(lambda start: function(slice(int(start), min(int(start) + size, self.positions))), starts)


def _plan(images: int, width: int) -> tuple[int, bool]:
    """Number of images to collect, and whether sums are needed: whatever takes less memory."""
    with_sums = 4 * images * width > 4 * _COLLECTED * width + _sums(width)
    return (_COLLECTED, True) if with_sums else (images, False)


def _sums(width: int) -> int:
    """Bytes of mean and scatter at one position."""
    return 8 * (width + packed_size(width))
