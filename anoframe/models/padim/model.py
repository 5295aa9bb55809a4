"""PaDiM: a Gaussian distribution of normal features at each position of the image.

Defard et al., "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and Localization", ICPR 2020
workshops. The score of a position is the Mahalanobis distance of its features (section III, equation 2). Positions are
compared with the same position of the training images, so parts must be aligned.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anoframe.errors import AnoframeError
from anoframe.models.base import Features, Forecast, ObservingDetector
from anoframe.models.components.anomaly_map import gaussian_blur, upsample
from anoframe.models.padim.graph import PaDiMGraph
from anoframe.models.padim.joining import resize_and_join
from anoframe.models.padim.statistics import PositionStatistics
from anoframe.models.padim.whitening import packed_size, whiten, whitening_matrices
from anoframe.models.summary import MethodSummary
from anoframe.types import Prediction, Sample
from anoframe.utils.memory import gigabytes


class PaDiM(ObservingDetector):
    """Mean and covariance of a random subset of channels at each position.

    The levels are resized to the grid of the first level (nearest neighbour) and concatenated. The covariance is the
    unbiased estimate plus `regularization` times the identity. A checkpoint holds the chosen channels, the means, and a
    whitening matrix for each position (see :mod:`anoframe.models.padim.whitening`) of `2.4 d^2` bytes: with 56 x 56
    positions 75 MB for 100 channels and 2.3 GB for 550.

    Args:
        backbone: returns feature maps `[B, C, h, w]` of one or more levels, with their channels in `channels`; the grid
            of the first level is that of the Gaussians.
        num_channels: number `d` of channels, drawn without replacement from those of all levels; None takes all. The
            paper: 100 of 448 for ResNet-18, 550 of 1,792 for WideResNet-50-2.
        regularization: added to the diagonal of each covariance, 0.01 in the paper.
        sigma: standard deviation of the Gaussian on the map, in pixels.
        seed: seed of the choice of channels.
    """

    stage_name = "gaussians"
    channels: Tensor
    mean: Tensor
    whitening: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        num_channels: int | None = None,
        regularization: float = 0.01,
        sigma: float = 4.0,
        seed: int = 0,
    ):
        super().__init__(backbone)
        if not regularization > 0:
            raise AnoframeError(f"model.regularization is above 0 (0.01 in the paper), got {regularization}")
        self.regularization, self.sigma = regularization, sigma
        self.register_buffer("channels", _draw_channels(backbone, num_channels, seed))  # [d], ascending
        self.register_buffer("mean", torch.empty(0, 0, 0))  # [h, w, d]
        self.register_buffer("whitening", torch.empty(0, 0))  # [h * w, packed_size(d)]
        self._statistics: PositionStatistics | None = None

    def embed(self, features: Features) -> Tensor:
        """Compute the chosen channels at each position of the first level's grid: `[B, h, w, d]`."""
        chosen, offset = [], 0
        for level in features:
            inside = (self.channels >= offset) & (self.channels < offset + level.shape[1])
            chosen.append(level[:, self.channels[inside] - offset])
            offset += level.shape[1]
        return resize_and_join(chosen, features[0].shape[-2:])

    # ------------------------------------------------------------------------------------------------ training

    def begin_observation(self, images: int) -> None:
        if images < 2:
            raise AnoframeError(f"PaDiM estimates covariances and needs at least 2 training images, got {images}")
        self._num_expected, self._statistics = images, None

    def forecast(self, features: Features, images: int) -> Forecast:
        positions, width = features[0].shape[-2:].numel(), len(self.channels)
        stored = 4 * positions * (width + packed_size(width))
        fitting = stored + PositionStatistics.memory(images, positions, width)
        memory = max(fitting, 3 * stored)  # writing the checkpoint holds two copies
        return Forecast(
            f"{positions:,} Gaussians of {width} channels, {gigabytes(stored)}; fitting takes about "
            f"{gigabytes(memory)} of memory",
            memory,
            "Lower model.num_channels or data.crop, or begin model.backbone.levels with a coarser level",
        )

    def observe(self, features: Features, samples: Sequence[Sample]) -> None:
        vectors = self.embed(features)  # [B, h, w, d]
        if self._statistics is None:
            _, height, width, channels = vectors.shape
            self._grid = (height, width)
            self._statistics = PositionStatistics(self._num_expected, height * width, channels, vectors.device)
        self._statistics.add(vectors.flatten(1, 2))

    def finish_observation(self) -> None:
        assert self._statistics is not None
        parts = self._statistics.map(self._fit_gaussians)
        self._statistics = None
        self.mean = torch.cat([mean for mean, _ in parts]).unflatten(0, self._grid)
        self.whitening = torch.cat([whitening for _, whitening in parts])

    def _fit_gaussians(self, mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
        """Compute what is stored of some positions: means `[p, d]` and packed whitening matrices, float32."""
        covariance.diagonal(dim1=1, dim2=2).add_(self.regularization)
        return mean.float(), whitening_matrices(covariance).float()

    def summary(self) -> MethodSummary:
        if not len(self.whitening):
            return MethodSummary()
        height, width, channels = self.mean.shape
        return MethodSummary(scalars={"gaussians/positions": height * width, "gaussians/channels": channels})

    # ------------------------------------------------------------------------------------------------ detecting

    def prepare_detection(self) -> None:
        if not len(self.whitening):
            raise AnoframeError("this PaDiM has no Gaussians yet: fit it, or load a checkpoint")

    def compute_prediction(self, features: Features, size: tuple[int, int]) -> Prediction:
        maps = gaussian_blur(upsample(self.distances(features), size), self.sigma)
        return Prediction(maps.flatten(1).max(1).values, maps)

    def detection_graph(self, size: tuple[int, int]) -> nn.Module:
        widths: Sequence[int] = self.backbone.channels  # type: ignore[assignment]
        return PaDiMGraph(self.channels.tolist(), widths, self.mean, self.whitening, self.sigma, size)

    def distances(self, features: Features) -> Tensor:
        """Compute the Mahalanobis distance at each position: `[B, h, w]`."""
        vectors = self.embed(features)
        grid = vectors.shape[1:3]
        if grid != self.mean.shape[:2]:
            expected, got = (" x ".join(map(str, shape)) for shape in (self.mean.shape[:2], grid))
            raise AnoframeError(
                f"this PaDiM has Gaussians for {expected} positions, and the image has {got}: use images of the size "
                "that it was trained on"
            )
        deviations = (vectors - self.mean).flatten(1, 2).transpose(0, 1)  # [h * w, B, d]
        return whiten(deviations, self.whitening).norm(dim=2).T.unflatten(1, grid)


def _draw_channels(backbone: nn.Module, num_channels: int | None, seed: int) -> Tensor:
    """Draw distinct channels of all levels together, in ascending order."""
    levels: Sequence[int] = backbone.channels  # type: ignore[assignment]
    total = sum(levels)
    if num_channels is None:
        return torch.arange(total)
    if not 1 <= num_channels <= total:
        counts = " + ".join(map(str, levels))
        raise AnoframeError(
            f"model.num_channels is between 1 and the {total} channels of the backbone's levels ({counts}), got "
            f"{num_channels}"
        )
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:num_channels].sort().values
