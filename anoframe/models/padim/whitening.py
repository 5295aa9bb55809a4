"""Whitening matrices: Mahalanobis distances as matrix products, from triangular matrices stored in blocks.

With the Cholesky factor `S = L L^T` of a covariance, `(x - m)^T S^-1 (x - m) = |L^-1 (x - m)|^2`. The matrix
`U = L^-T` is upper triangular, and `|(x - m)^T U|` is the distance. Two reasons to store `U` and not `S^-1`:

- rounding: the error grows with the root of the condition number of `S`, with `S^-1` with the condition number itself;
- size: its columns are stored in `NUM_BLOCKS` blocks down to the diagonal, which is 60 % of the values of `S^-1`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from anoframe.errors import AnoframeError

NUM_BLOCKS = 5


def packed_size(width: int) -> int:
    """Number of stored values of a `[width, width]` triangular or symmetric matrix.

    >>> packed_size(100)
    6000
    """
    return sum(stop * (stop - start) for start, stop in _blocks(width))


def pack(matrices: Tensor) -> Tensor:
    """Keep the blocks of columns on and above the diagonal: `[..., d, d]` to `[..., packed_size(d)]`."""
    blocks = [matrices[..., :stop, start:stop].flatten(-2) for start, stop in _blocks(matrices.shape[-1])]
    return torch.cat(blocks, dim=-1)


def unpack_symmetric(packed: Tensor, width: int) -> Tensor:
    """Restore symmetric matrices: `[..., packed_size(d)]` to `[..., d, d]`."""
    matrices = packed.new_zeros(*packed.shape[:-1], width, width)
    for start, stop, block in _unpacked_blocks(packed, width):
        matrices[..., :stop, start:stop] = block
    return matrices.triu() + matrices.triu(1).mT


def whitening_matrices(covariances: Tensor) -> Tensor:
    """Compute packed `U` with `U U^T = S^-1`: `[p, d, d]` to `[p, packed_size(d)]`, in the type of the input.

    Raises:
        AnoframeError: a covariance is not positive definite to rounding.
    """
    factors, failed = torch.linalg.cholesky_ex(covariances)
    if bool(failed.any()):
        raise AnoframeError(
            "a covariance of the features is not positive definite to rounding, because some features vary by many "
            "orders of magnitude more than others: raise model.regularization, or use other weights of the backbone"
        )
    identity = torch.eye(covariances.shape[-1], dtype=covariances.dtype, device=covariances.device)
    return pack(torch.linalg.solve_triangular(factors, identity.expand_as(factors), upper=False).mT)


def whiten(vectors: Tensor, packed: Tensor) -> Tensor:
    """Compute `x^T U` of `n` vectors at each of `p` positions.

    Args:
        vectors: `[p, n, d]`.
        packed: `[p, packed_size(d)]`.

    Returns:
        `[p, n, d]`, whose norms are the distances.
    """
    blocks = _unpacked_blocks(packed, vectors.shape[-1])
    return torch.cat([torch.bmm(vectors[..., :stop], block) for _, stop, block in blocks], dim=-1)


def _blocks(width: int) -> Iterator[tuple[int, int]]:
    """First and last column (exclusive) of each block; a block has the rows from 0 to its last column."""
    size = -(-width // NUM_BLOCKS)
    for start in range(0, width, size):
        yield start, min(start + size, width)


def _unpacked_blocks(packed: Tensor, width: int) -> Iterator[tuple[int, int, Tensor]]:
    """First and last column of each block, and the block as a view `[..., stop, stop - start]`."""
    offset = 0
    for start, stop in _blocks(width):
        size = stop * (stop - start)
        yield start, stop, packed[..., offset : offset + size].unflatten(-1, (stop, stop - start))
        offset += size
