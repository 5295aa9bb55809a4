"""Detection of PaDiM as a graph: the channels of each level are fixed lists instead of a selection by values."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from anoframe.models.base import Features
from anoframe.models.components.linear_maps import smoothing_matrix, transform
from anoframe.models.padim.joining import resize_and_join
from anoframe.models.padim.whitening import whiten
from anoframe.types import Prediction


class PaDiMGraph(nn.Module):
    """PaDiM's detection with given Gaussians.

    Args:
        channels: chosen channels, ascending, counted over all levels.
        widths: number of channels of each level.
        mean: `[h, w, d]`.
        whitening: `[h * w, packed_size(d)]`.
        sigma: standard deviation of the Gaussian on the map, in pixels.
        size: height and width of the maps.
    """

    mean: Tensor
    whitening: Tensor

    def __init__(
        self,
        channels: Sequence[int],
        widths: Sequence[int],
        mean: Tensor,
        whitening: Tensor,
        sigma: float,
        size: tuple[int, int],
    ):
        super().__init__()
        self.sigma, self.size = sigma, size
        self.register_buffer("mean", mean)
        self.register_buffer("whitening", whitening)
        firsts = [sum(widths[:i]) for i in range(len(widths))]
        self._channels = [
            [c - first for c in channels if first <= c < first + width]
            for first, width in zip(firsts, widths, strict=True)
        ]

    def forward(self, features: Features) -> Prediction:
        grid = self.mean.shape[:2]
        chosen = [level[:, channels] for level, channels in zip(features, self._channels, strict=True) if channels]
        vectors = resize_and_join(chosen, features[0].shape[-2:])  # [B, h, w, d]
        deviations = (vectors - self.mean).flatten(1, 2).transpose(0, 1)  # [h * w, B, d]
        distances = whiten(deviations, self.whitening).norm(dim=2).T.unflatten(1, grid)
        rows, columns = (smoothing_matrix(a, b, self.sigma) for a, b in zip(grid, self.size, strict=True))
        maps = transform(distances, rows, columns)
        return Prediction(maps.flatten(1).amax(1), maps)
