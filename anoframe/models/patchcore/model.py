"""PatchCore: the distance of each patch to its nearest entry in a memory bank of normal patches.

Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022. Where the paper's text and the authors'
code differ, the default is the code, which produced the published numbers, except for `squared`: distances are the
paper's. Each difference is named below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from anoframe.errors import AnoframeError
from anoframe.models.base import ContinualDetector, Features, Forecast, ObservingDetector
from anoframe.models.components.anomaly_map import gaussian_blur, upsample
from anoframe.models.components.nearest import ENGINES, Search
from anoframe.models.components.patch_embedding import PatchEmbedding
from anoframe.models.patchcore.coreset import (
    METHODS,
    coreset_size,
    greedy_coreset,
    random_projection,
    selection_cost,
)
from anoframe.models.patchcore.graph import PatchCoreGraph
from anoframe.models.patchcore.reweighting import reweight
from anoframe.models.summary import MethodSummary
from anoframe.registry import check_arguments
from anoframe.types import Prediction, Sample
from anoframe.utils.memory import empty_or_memmap, fits_in_memory, gigabytes

IMAGE_SCORES = ("max", "reweight")


@dataclass(frozen=True)
class CoresetSettings:
    """Selection of the bank from all training patches; see :mod:`anoframe.models.patchcore.coreset`."""

    ratio: float = 0.1
    method: str = "approximate"
    projection_dim: int = 128
    start_points: int = 10

    def __post_init__(self) -> None:
        coreset_size(10**9, self.ratio)  # raises now instead of after the encoder's pass
        if self.method not in METHODS:
            raise AnoframeError(f"model.coreset.method is one of {', '.join(METHODS)}, got {self.method!r}")
        if self.projection_dim < 1:
            raise AnoframeError(f"model.coreset.projection_dim is at least 1, got {self.projection_dim}")
        if self.start_points < 1:
            raise AnoframeError(f"model.coreset.start_points is at least 1, got {self.start_points}")


@dataclass(frozen=True)
class PatchScores:
    """Results for the `N` patches of one image.

    Attributes:
        score: `[N]`.
        nearest: `[N]`, bank row of the nearest entry.
        extra: name -> `[N]`, further values that become extra maps.
    """

    score: Tensor
    nearest: Tensor
    extra: dict[str, Tensor]


class PatchCore(ObservingDetector, ContinualDetector):
    """Memory bank of normal patches. On a stream with the strategy `native`, each task appends its own bank.

    Args:
        backbone: returns feature maps `[B, C, h, w]` of one or more levels; the first level's grid is the patch grid.
        embedding: arguments of :class:`PatchEmbedding`.
        coreset: arguments of :class:`CoresetSettings`.
        neighbours: number of nearest entries; a patch's distance is the mean over them.
        squared: use squared distances, as the reference code does; by default they are not squared, as in the paper.
            With one neighbour the image ranking is the same; maps differ, because they are interpolated and smoothed.
        image_score: `"max"` is the largest patch score (the code); `"reweight"` multiplies it by the factor of the
            paper's equation 7.
        reweight_neighbours: `b` of that equation; the paper does not state it, anomalib uses 9.
        sigma: standard deviation of the Gaussian on the map, in pixels.
        search: engine of the nearest-neighbour search, `"torch"` or `"faiss"`; see
            :class:`anoframe.models.components.nearest.Search`.
        seed: seed of the projection and of the start of the coreset.
    """

    stage_name = "coreset"
    bank: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        embedding: Mapping[str, Any] | None = None,
        coreset: Mapping[str, Any] | None = None,
        neighbours: int = 1,
        squared: bool = False,
        image_score: str = "max",
        reweight_neighbours: int = 9,
        sigma: float = 4.0,
        search: str = "torch",
        seed: int = 0,
    ):
        super().__init__(backbone)
        check_arguments(PatchEmbedding, embedding or {}, "model.embedding")
        check_arguments(CoresetSettings, coreset or {}, "model.coreset")
        if image_score not in IMAGE_SCORES:
            raise AnoframeError(f"model.image_score is one of {', '.join(IMAGE_SCORES)}, got {image_score!r}")
        if search not in ENGINES:
            raise AnoframeError(f"model.search is one of {', '.join(ENGINES)}, got {search!r}")
        if neighbours < 1 or reweight_neighbours < 1:
            got = f"{neighbours} and {reweight_neighbours}"
            raise AnoframeError(f"model.neighbours and model.reweight_neighbours are at least 1, got {got}")
        self._embedding = PatchEmbedding(**(embedding or {}))
        self.coreset = CoresetSettings(**(coreset or {}))
        self.neighbours, self.squared = neighbours, squared
        self.image_score, self.reweight_neighbours = image_score, reweight_neighbours
        self.sigma, self.seed = sigma, seed
        self.register_buffer("bank", torch.empty(0, 0))
        self._engine = search
        self._search: Search | None = None
        self._patches = torch.empty(0)  # [images, N, D] during the observation
        self._num_observed = 0
        self._earlier_tasks: dict[str, Tensor] = {}  # buffer name -> bank rows of earlier tasks

    def embed(self, features: Features) -> tuple[Tensor, tuple[int, int]]:
        """Compute patches `[B, N, D]` of a batch in row-major order, and their grid `(h, w)`."""
        return self._embedding(features)

    # ------------------------------------------------------------------------------------------------ training

    def start_task(self, task: int, images: int) -> None:
        self._earlier_tasks = {"bank": self.bank} if task else {}

    def finish_task(self) -> None:
        self._earlier_tasks = {}

    def begin_observation(self, images: int) -> None:
        self._num_expected, self._num_observed, self._patches = images, 0, torch.empty(0)

    def forecast(self, features: Features, images: int) -> Forecast:
        patches, _ = self.embed([level[:1] for level in features])
        count, width = images * patches.shape[1], patches.shape[2]
        size = coreset_size(count, self.coreset.ratio)
        projected_width = min(width, self.coreset.projection_dim)
        selection, seconds = selection_cost(count, projected_width, size)
        all_patches = 4 * count * width  # kept in a file if too large, see `empty_or_memmap`
        memory = (
            4 * count * projected_width
            + selection
            + 8 * size * width
            + (all_patches if fits_in_memory(all_patches) else 0)
        )
        return Forecast(
            f"memory bank of {size:,} of {count:,} patches with {width} values each, {gigabytes(4 * size * width)}; "
            f"fitting takes about {gigabytes(memory)} of memory, and the coreset selection at most {seconds:,.0f} s "
            "on the processor",
            memory,
            "Lower model.coreset.ratio, model.embedding.target_dim or data.crop, or train on fewer images",
        )

    def observe(self, features: Features, samples: Sequence[Sample]) -> None:
        patches, _ = self.embed(features)
        if not bool(patches.isfinite().all()):
            finite = patches.flatten(1).isfinite().all(1).tolist()
            image = samples[finite.index(False)].image
            raise AnoframeError(f"features of {image} are not finite: check that image, and the backbone's weights")
        if self._num_observed == 0:  # a single tensor for all images: joining batches would need the memory twice
            self._patches = empty_or_memmap((self._num_expected, *patches.shape[1:]), "patches of all training images")
        self._patches[self._num_observed : self._num_observed + len(patches)] = patches.cpu()
        self._num_observed += len(patches)

    def finish_observation(self) -> None:
        patches = self._patches[: self._num_observed]  # [images, N, D]
        picks = self._select(patches.flatten(0, 1))
        self._fill_bank(patches, picks)
        for name, rows in self._earlier_tasks.items():
            setattr(self, name, torch.cat([rows, getattr(self, name)]))
        self._patches = torch.empty(0)

    def _select(self, patches: Tensor) -> Tensor:
        """Choose the rows of `[n, D]` that the bank keeps, in the order of selection."""
        size = coreset_size(len(patches), self.coreset.ratio)
        generator = torch.Generator().manual_seed(self.seed)
        projected = torch.as_tensor(random_projection(patches, self.coreset.projection_dim, generator))
        return greedy_coreset(
            projected.to(self.bank.device), size, self.coreset.method, generator, self.coreset.start_points
        )

    def _fill_bank(self, patches: Tensor, picks: Tensor) -> None:
        self.bank = patches.flatten(0, 1)[picks].to(self.bank.device)

    def summary(self) -> MethodSummary:
        return MethodSummary(scalars={"bank/entries": len(self.bank)}) if len(self.bank) else MethodSummary()

    # ------------------------------------------------------------------------------------------------ detecting

    def prepare_detection(self) -> None:
        if not len(self.bank):
            raise AnoframeError("this PatchCore has no memory bank yet: fit it, or load a checkpoint")
        self._search = self.search

    @property
    def search(self) -> Search:
        """Search over the current bank; fitting, loading and moving to a device replace the bank."""
        if self._search is None or self._search.bank is not self.bank:
            self._search = Search(self.bank, self._engine)
        return self._search

    def compute_prediction(self, features: Features, size: tuple[int, int]) -> Prediction:
        patches, grid = self.embed(features)
        results = [self.patch_scores(image) for image in patches]
        score = torch.stack([self._image_score(*pair) for pair in zip(patches, results, strict=True)])
        scores = torch.stack([result.score for result in results]).unflatten(1, grid)  # [B, h, w]
        extra = {name: torch.stack([result.extra[name] for result in results]) for name in results[0].extra}
        extra_maps = {name: upsample(values.unflatten(1, grid), size) for name, values in extra.items()}
        maxima = scores if self.image_score == "max" else None
        return Prediction(score, gaussian_blur(upsample(scores, size), self.sigma), extra_maps, patch_scores=maxima)

    def detection_graph(self, size: tuple[int, int]) -> nn.Module:
        return PatchCoreGraph(self, size)

    def patch_scores(self, patches: Tensor, search: Search | None = None) -> PatchScores:
        """Compute scores of one image's patches `[N, D]`, from the bank or from the entries of another search."""
        distances, indices = (search or self.search).nearest(patches, self.neighbours)
        return PatchScores(self._distance(distances), indices[:, 0], {})

    def _distance(self, distances: Tensor) -> Tensor:
        """Mean over the neighbours, `[N, k]` to `[N]`."""
        return (distances.square() if self.squared else distances).mean(1)

    def _image_score(self, patches: Tensor, result: PatchScores) -> Tensor:
        worst = result.score.argmax()
        if self.image_score == "max":
            return result.score[worst]
        entry = int(result.nearest[worst])
        return result.score[worst] * reweight(patches[worst], self.search, entry, self.reweight_neighbours)
