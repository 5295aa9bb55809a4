"""Detection of PatchCore as a graph: tensor operations for a batch of any size, without loops or threads.

The nearest entries are found by `|a|^2 + |b|^2 - 2ab`, one matrix product, and their distances are computed again as
`|a - b|`, as in :mod:`anoframe.models.components.nearest`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from anoframe.models.base import Features
from anoframe.models.components.linear_maps import smoothing_matrix, transform
from anoframe.types import Prediction

if TYPE_CHECKING:
    from anoframe.models.patchcore.model import PatchCore


class PatchCoreGraph(nn.Module):
    """PatchCore's detection with the bank of a fitted detector.

    Args:
        detector: fitted.
        size: height and width of the maps.
    """

    rows: Tensor
    norms: Tensor
    centre: Tensor
    near_entries: Tensor
    products_may_be_rounded = True  # in int8: they only choose an entry, and its distance is computed again

    def __init__(self, detector: PatchCore, size: tuple[int, int]):
        super().__init__()
        self.size, self.embed, self.sigma = size, detector.embed, detector.sigma
        self.neighbours = min(detector.neighbours, len(detector.bank))
        self.squared = detector.squared
        # Without the mean, which all differences share, less is lost in the rounding of the product
        self.register_buffer("centre", detector.bank.mean(0))
        self.register_buffer("rows", detector.bank - self.centre)  # [M, D]
        self.register_buffer("norms", self.rows.square().sum(1))  # [M]
        self.reweight = detector.image_score == "reweight" and min(detector.reweight_neighbours, len(self.rows)) > 1
        if self.reweight:  # the entries nearest to each entry, [M, b], of equation 7
            near = detector.search.nearest(detector.bank, detector.reweight_neighbours)[1]
            self.register_buffer("near_entries", near)

    def forward(self, features: Features) -> Prediction:
        patches, grid = self.embed(features)  # [B, N, D]
        vectors = patches - self.centre
        scores, entries = self.patch_scores(vectors)  # [B, N] each
        maps = scores.unflatten(1, grid)
        height, width = (smoothing_matrix(a, b, self.sigma) for a, b in zip(grid, self.size, strict=True))
        return Prediction(self._image_score(vectors, scores, entries), transform(maps, height, width))

    def patch_scores(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the score and the nearest entry, `[B, N]` each, of patches `[B, N, D]` minus the centre."""
        # |a|^2 is the same for all entries of a patch and does not change their order
        order = self.norms - 2 * (vectors @ self.rows.T)  # [B, N, M]
        if self.neighbours == 1:
            nearest = order.argmin(2)
            return self._distance((vectors - self.rows[nearest]).norm(dim=2)), nearest
        nearest = order.topk(self.neighbours, 2, largest=False).indices  # [B, N, k]
        distances = (vectors[:, :, None] - self.rows[nearest]).norm(dim=3)
        closest = distances.argmin(2, keepdim=True)
        return self._distance(distances).mean(2), nearest.gather(2, closest)[:, :, 0]

    def _distance(self, distances: Tensor) -> Tensor:
        return distances.square() if self.squared else distances

    def _image_score(self, vectors: Tensor, scores: Tensor, entries: Tensor) -> Tensor:
        """Compute the largest patch score `[B]`, re-weighted by equation 7 of the paper if the detector does."""
        if not self.reweight:
            return scores.amax(1)
        score, worst = scores.max(1, keepdim=True)  # [B, 1]
        patch = vectors.gather(1, worst[:, :, None].expand(-1, -1, vectors.shape[2]))  # [B, 1, D]
        entry = entries.gather(1, worst)[:, 0]  # [B]
        distances = (self.rows[self.near_entries[entry]] - patch).norm(dim=2)  # [B, b]
        closest = (self.rows[entry] - patch[:, 0]).norm(dim=1)
        return score[:, 0] * (1 - torch.exp(closest - distances.logsumexp(1)))
