"""PatchCore: a memory bank of normal patches, and the distance to its nearest entry.

Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022. Where the paper's text and the authors'
code differ, the code gave the published numbers and is the default; each such place is named below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from anoframe.errors import AnoframeError
from anoframe.models.base import ContinualDetector, Features, Forecast, ObservingDetector
from anoframe.models.components.anomaly_map import gaussian_blur, upsample
from anoframe.models.components.coreset import METHODS, coreset_size, greedy_coreset, random_projection, selection_cost
from anoframe.models.components.nearest import ENGINES, Search
from anoframe.models.components.patch_embedding import PatchEmbedding
from anoframe.registry import check_arguments
from anoframe.types import Prediction, Sample
from anoframe.utils.memory import empty_or_memmap, fits, gigabytes
from anoframe.utils.parallel import map_images

IMAGE_SCORES = ("max", "reweight")


@dataclass(frozen=True)
class Coreset:
    """How the bank is chosen from all training patches; see :mod:`anoframe.models.components.coreset`."""

    ratio: float = 0.1
    method: str = "approximate"
    projection_dim: int = 128
    start_points: int = 10

    def __post_init__(self) -> None:
        coreset_size(10**9, self.ratio)  # told now, not after the encoder's pass
        if self.method not in METHODS:
            raise AnoframeError(f"model.coreset.method is one of {', '.join(METHODS)}, got {self.method!r}")
        if self.projection_dim < 1:
            raise AnoframeError(f"model.coreset.projection_dim is at least 1, got {self.projection_dim}")
        if self.start_points < 1:
            raise AnoframeError(f"model.coreset.start_points is at least 1, got {self.start_points}")


@dataclass(frozen=True)
class PatchScores:
    """What is known of the patches of one image: `[N]` each."""

    score: Tensor
    nearest: Tensor  # row of the bank nearest to the patch
    extra: dict[str, Tensor]


class PatchCore(ObservingDetector, ContinualDetector):
    """The memory bank. On a stream of tasks with the strategy `expand`, each task adds a bank of its own to the others.

    Args:
        backbone: gives feature maps `[B, C, h, w]` of one or more levels; the first level's grid is the patch grid.
        embedding: arguments of :class:`PatchEmbedding`.
        coreset: arguments of :class:`Coreset`.
        neighbours: a patch's distance is the mean over so many nearest entries.
        squared: mean squared distances instead of Euclidean ones: the reference code's convention. It keeps the image
            ranking for one neighbour, and changes maps, which are interpolated and smoothed.
        image_score: `"max"` of the patch scores (the code), or `"reweight"` that maximum (the paper, equation 7).
        reweight_neighbours: `b` of that equation; the paper does not state it, anomalib takes 9.
        sigma: of the Gaussian on the map, in pixels.
        search: what finds neighbours, `"torch"` or `"faiss"`; see :class:`anoframe.models.components.nearest.Search`.
        seed: draws the projection and the start of the coreset.
    """

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
        check_arguments(Coreset, coreset or {}, "model.coreset")
        if image_score not in IMAGE_SCORES:
            raise AnoframeError(f"model.image_score is one of {', '.join(IMAGE_SCORES)}, got {image_score!r}")
        if search not in ENGINES:
            raise AnoframeError(f"model.search is one of {', '.join(ENGINES)}, got {search!r}")
        if neighbours < 1 or reweight_neighbours < 1:
            got = f"{neighbours} and {reweight_neighbours}"
            raise AnoframeError(f"model.neighbours and model.reweight_neighbours are at least 1, got {got}")
        self._embedding = PatchEmbedding(**(embedding or {}))
        self.coreset = Coreset(**(coreset or {}))
        self.neighbours, self.squared = neighbours, squared
        self.image_score, self.reweight_neighbours = image_score, reweight_neighbours
        self.sigma, self.seed = sigma, seed
        self.register_buffer("bank", torch.empty(0, 0))
        self._engine = search
        self._search: Search | None = None
        self._patches = torch.empty(0)  # [images, N, D] while observing
        self._seen = 0
        self._kept: dict[str, Tensor] = {}  # what each row of the bank has, of the tasks before

    def embed(self, features: Features) -> tuple[Tensor, tuple[int, int]]:
        """Patches `[B, N, D]` of a batch, row by row, and their grid `(h, w)`."""
        return self._embedding(features)

    # ------------------------------------------------------------------------------------------------ learning

    def start_task(self, task: int, images: int) -> None:
        self._kept = {"bank": self.bank} if task else {}

    def finish_task(self) -> None:
        self._kept = {}

    def begin_observation(self, images: int) -> None:
        self._expected, self._seen, self._patches = images, 0, torch.empty(0)

    def forecast(self, features: Features, images: int) -> Forecast:
        patches, _ = self.embed([level[:1] for level in features])
        count, width = images * patches.shape[1], patches.shape[2]
        size = coreset_size(count, self.coreset.ratio)
        chosen_on = min(width, self.coreset.projection_dim)
        selection, seconds = selection_cost(count, chosen_on, size)
        held = 4 * count * width  # in a file where it is too much, see `empty_or_memmap`
        memory = 4 * count * chosen_on + selection + 8 * size * width + (held if fits(held) else 0)
        return Forecast(
            f"bank of {size:,} of {count:,} patches of {width} numbers, {gigabytes(4 * size * width)}; learning takes "
            f"about {gigabytes(memory)} of memory, and choosing the bank at most {seconds:,.0f} s on the processor",
            memory,
            "Lower model.coreset.ratio, model.embedding.target_dim or data.crop, or learn from fewer images",
        )

    def observe(self, features: Features, samples: Sequence[Sample]) -> None:
        patches, _ = self.embed(features)
        if not bool(patches.isfinite().all()):
            bad = [sample.image for sample, one in zip(samples, patches, strict=True) if not one.isfinite().all()]
            raise AnoframeError(f"features of {bad[0]} are not finite: check that image, and the backbone's weights")
        if self._seen == 0:  # one block for all: gathering pieces would need the memory twice
            self._patches = empty_or_memmap((self._expected, *patches.shape[1:]), "patches of all training images")
        self._patches[self._seen : self._seen + len(patches)] = patches.cpu()
        self._seen += len(patches)

    def finish_observation(self) -> None:
        patches = self._patches[: self._seen]  # [images, N, D]
        picks = self._select(patches.flatten(0, 1))
        self._fill_bank(patches, picks)
        for name, kept in self._kept.items():
            setattr(self, name, torch.cat([kept, getattr(self, name)]))
        self._patches = torch.empty(0)

    def _select(self, patches: Tensor) -> Tensor:
        """Rows of `[n, D]` that the bank keeps, in the order of picking."""
        size = coreset_size(len(patches), self.coreset.ratio)
        generator = torch.Generator().manual_seed(self.seed)
        projected = torch.as_tensor(random_projection(patches, self.coreset.projection_dim, generator))
        return greedy_coreset(
            projected.to(self.bank.device), size, self.coreset.method, generator, self.coreset.start_points
        )

    def _fill_bank(self, patches: Tensor, picks: Tensor) -> None:
        self.bank = patches.flatten(0, 1)[picks].to(self.bank.device)

    # ------------------------------------------------------------------------------------------------ detecting

    def detect(self, features: Features, size: tuple[int, int]) -> Prediction:
        if not len(self.bank):
            raise AnoframeError("this PatchCore has no memory bank yet: fit it, or load a checkpoint")
        patches, grid = self.embed(features)
        self.search  # noqa: B018 - built once, before threads share it
        found = map_images(lambda one: self.patch_scores(one[0]), patches)
        score = torch.stack([self._image_score(one, what) for one, what in zip(patches, found, strict=True)])
        extra = {name: torch.stack([what.extra[name] for what in found]) for name in found[0].extra}
        maps = {name: upsample(values.unflatten(1, grid), size) for name, values in extra.items()}
        scores = torch.stack([what.score for what in found]).unflatten(1, grid)  # [B, h, w]
        return Prediction(score, gaussian_blur(upsample(scores, size), self.sigma), maps)

    @property
    def search(self) -> Search:
        """Of the bank as it is now: fitting, loading and moving to a device exchange it."""
        if self._search is None or self._search.bank is not self.bank:
            self._search = Search(self.bank, self._engine)
        return self._search

    def patch_scores(self, patches: Tensor, search: Search | None = None) -> PatchScores:
        """Scores of one image's patches `[N, D]`, by the bank or by another set of entries."""
        distances, indices = (search or self.search).nearest(patches, self.neighbours)
        return PatchScores(self._distance(distances), indices[:, 0], {})

    def _distance(self, distances: Tensor) -> Tensor:
        """Mean over the neighbours, `[N, k] -> [N]`."""
        return (distances.square() if self.squared else distances).mean(1)

    def _image_score(self, patches: Tensor, found: PatchScores) -> Tensor:
        worst = found.score.argmax()
        if self.image_score == "max":
            return found.score[worst]
        entry = int(found.nearest[worst])
        return found.score[worst] * reweight(patches[worst], self.search, entry, self.reweight_neighbours)


def reweight(patch: Tensor, search: Search, entry: int, neighbours: int) -> float:
    """The factor of the paper's equation 7 on the score of an image's most anomalous patch.

    `1 - exp|m - m*| / sum over N_b(m*) of exp|m - m'|`, with `N_b(m*)` the `b` rows of the bank nearest to `m*`,
    itself among them. Small where many entries are as near as `m*`.

    Args:
        patch: `[D]`, the patch `m`.
        search: of the bank `[M, D]`.
        entry: the row `m*` of the bank nearest to the patch.
        neighbours: `b`, clipped to `M`.

    Returns:
        A factor in [0, 1); exactly 1 for `b = 1`, where the formula would make every score 0.
    """
    bank = search.bank
    if min(neighbours, len(bank)) == 1:
        return 1.0
    around = search.nearest(bank[entry : entry + 1], neighbours)[1][0]
    distances = (bank[around] - patch).norm(dim=1)
    closest = (bank[entry] - patch).norm()
    return 1 - math.exp(float(closest - distances.logsumexp(0)))
