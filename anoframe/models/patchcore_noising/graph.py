"""Detection of PatchCore-noising as a graph, see :mod:`anoframe.models.patchcore.graph`.

Offsets from a patch to 64 candidates take 64 times the memory of the patches. Here the products of the noise with all
entries are one matrix product, and those with the candidates are picked from it: with noise `eps` of patch `z`,

    |z + eps - b|^2 = |z - b|^2 + 2 (z . eps - b . eps) + |eps|^2.

Noise comes in pairs `eps`, `-eps`, so half of the products are enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anoframe.models.base import Features
from anoframe.models.components.nearest import SPARE
from anoframe.models.patchcore.graph import PatchCoreGraph
from anoframe.models.patchcore_noising.noise import noise_amplitude, noise_shape, noise_vectors
from anoframe.types import Prediction

if TYPE_CHECKING:
    from anoframe.models.patchcore_noising.model import PatchCoreNoising


class NoisingGraph(PatchCoreGraph):
    """Detection of a fitted detector; arguments as for :class:`PatchCoreGraph`."""

    xi: Tensor
    deviation: Tensor
    quantiles: Tensor
    products_may_be_rounded = False  # they are distances to the candidates

    def __init__(self, detector: PatchCoreNoising, size: tuple[int, int]):
        super().__init__(detector, size)
        self.is_active, self.noise = detector.is_active, detector.noise
        self.lambdas = detector.lambda_noise, detector.lambda_influence
        count = max(self.noise.candidates, detector.neighbours + SPARE, detector.influence_neighbours + SPARE)
        self.candidates = min(count, len(self.rows))
        self.influence_neighbours = min(detector.influence_neighbours, len(self.rows))
        self.student, self._combine = detector.student, detector.with_student
        if self.is_active:
            half = noise_vectors(self.noise.samples, self.rows.shape[1], self.noise.seed)[: self.noise.samples // 2]
            self.register_buffer("xi", half.to(self.rows))  # [S / 2, D]
            self.register_buffer("deviation", detector.deviation)
            self.register_buffer("quantiles", detector.quantiles)

    def forward(self, features: Features) -> Prediction:
        return self._combine(super().forward(features), features, self.size)

    def patch_scores(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        if not self.is_active:
            return super().patch_scores(vectors)
        lengths = vectors.square().sum(2, keepdim=True)
        squared = (lengths + self.norms - 2 * (vectors @ self.rows.T)).clamp(min=0)  # [B, N, M]
        near, entries = squared.topk(self.candidates, 2, largest=False)  # [B, N, C], the nearest first
        # The product's rounding would exchange neighbours that are almost equally near, and with them the influence
        closest = entries[:, :, : max(self.influence_neighbours, self.neighbours) + SPARE]
        offsets = vectors[:, :, None] - self.rows[closest]  # [B, N, K, D]
        distances, order = offsets.norm(dim=3).sort(dim=2)
        distance = distances[:, :, : self.neighbours].mean(2)
        order, lengths = (values[:, :, : self.influence_neighbours, None] for values in (order, distances))
        offsets = offsets.gather(2, order.expand(-1, -1, -1, offsets.shape[3]))
        units = torch.where(lengths < 1e-12, 0.0, offsets / lengths.clamp(min=1e-12))
        gradient = units.mean(2)  # [B, N, D]
        influence = gradient.norm(dim=2)
        noise = self.noise
        amplitude = noise_amplitude(distance, self.quantiles[0], self.quantiles[1], noise)
        shape = noise_shape(gradient.flatten(0, 1), noise.alpha).view_as(gradient)
        scale = noise.tau * amplitude[:, :, None] * self.deviation * shape  # [B, N, D]
        change = self._response(vectors, scale, near, entries)
        score = (distance + self.lambdas[0] * change) * (1 + self.lambdas[1] * influence)
        return score, closest.gather(2, order[:, :, :1, 0])[:, :, 0]

    def _response(self, vectors: Tensor, scale: Tensor, near: Tensor, entries: Tensor) -> Tensor:
        """Compute the mean increase of the distance under noise, `[B, N]`.

        Args:
            vectors: `[B, N, D]`, patches minus the centre.
            scale: `[B, N, D]`, standard deviation of the noise.
            near: `[B, N, C]`, squared distances to the candidates, ascending.
            entries: `[B, N, C]`, the candidates.
        """
        before = self._mean_of_nearest(near)
        changes = []
        for xi in self.xi:
            eps = scale * xi  # [B, N, D]
            with_entries = (eps @ self.rows.T).gather(2, entries)  # [B, N, C]
            products = 2 * ((vectors * eps).sum(2, keepdim=True) - with_entries)
            length = eps.square().sum(2, keepdim=True)
            changes += [self._mean_of_nearest((near + sign * products + length).clamp(min=0)) for sign in (1, -1)]
        return torch.stack(changes).mean(0) - before

    def _mean_of_nearest(self, squared: Tensor) -> Tensor:
        """Mean of the smallest distances `[B, N]`, from squared ones `[B, N, C]`."""
        if self.neighbours == 1:
            return squared.amin(2).sqrt()
        return squared.topk(min(self.neighbours, self.candidates), 2, largest=False).values.sqrt().mean(2)
