"""Distance to reference images: the few-shot part of WinCLIP (Jeong et al., CVPR 2023, section 4.3, equation 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from anoframe.models.components.nearest import Search


class Association:
    """Association score of embeddings with a memory of reference embeddings.

    The score of a query `q` is `min over r of (1 - cos(q, r)) / 2`, in [0, 1]; `r` are all positions of all references.
    For unit vectors this is a quarter of the squared Euclidean distance, which is exactly 0 for an entry of the memory
    and loses no digits for small distances. Threads may share an object.

    Args:
        memory: `[M, D]`, unit rows.
    """

    def __init__(self, memory: Tensor):
        self.memory = memory
        self._search = Search(memory)

    def scores(self, queries: Tensor) -> Tensor:
        """Compute the scores `[B, N]` of unit vectors `[B, N, D]`."""
        if torch.compiler.is_exporting():
            return (1 - queries @ self.memory.T).amin(2) / 2
        distances, _ = self._search.nearest(queries.flatten(0, 1))
        return (distances[:, 0].square() / 4).clamp(max=1.0).view(queries.shape[:2])
