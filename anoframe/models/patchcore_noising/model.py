"""PatchCore with adaptive noising: re-score a patch by the response of its distance to noise, and by its influence.

A proposal of this project; the document it is based on names the idea and gives no equations. The score of a patch is

    s(z) = [d + lambda_noise R] * [1 + lambda_influence I]

`d` is PatchCore's distance, `R` its mean change under noise, `I` the norm of its gradient; the equations are in
:mod:`anoframe.models.patchcore_noising.noise`. The noise vectors are the same for all patches, so a score is repeatable
and depends on no other image. With both weights zero, or `tau` zero and no influence, this is PatchCore to the bit. The
measured gain over PatchCore is in `docs/patchcore_noising.md`.

Besides the bank there may be a student (`model.student`, off by default), trained by gradient descent to reconstruct
the backbone's maps from noised ones; see :mod:`anoframe.models.patchcore_noising.student`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from anoframe.errors import AnoframeError
from anoframe.models.base import Features, Observation, Phase, TrainingBatch
from anoframe.models.components.anomaly_map import gaussian_blur, upsample
from anoframe.models.components.nearest import SPARE, Search
from anoframe.models.patchcore.model import PatchCore, PatchScores
from anoframe.models.patchcore_noising.graph import NoisingGraph
from anoframe.models.patchcore_noising.noise import (
    NoiseSettings,
    calibrate,
    influence_gradient,
    noise_amplitude,
    noise_shape,
    noise_vectors,
    response,
)
from anoframe.models.patchcore_noising.student import Moments, NoisedStudent, StudentSettings
from anoframe.registry import check_arguments
from anoframe.types import Prediction, Sample
from anoframe.utils.parallel import map_images

# Patches whose candidates are gathered at a time: 64 * 64 * 1024 values are 17 MB. From 32 MB on, glibc requests the
# memory of every chunk from the system again, and scoring takes twice as long.
_CHUNK = 64


class PatchCoreNoising(PatchCore):
    """PatchCore whose patch score is `[d + lambda_noise R] * [1 + lambda_influence I]`.

    With a student the map is `beta * Norm(student map) + (1 - beta) * Norm(bank map)`, both smoothed, and the image
    score its maximum. `Norm` subtracts the mean and divides by the standard deviation over the training images; there
    the bank map of an image is computed without the entries of that image. With `beta` 1 or 0 a single map is used,
    without `Norm`: `beta = 1` gives the student map and its maximum, as in RD4AD; `beta = 0` gives the result without a
    student, the bank map and the image score of its patches. The extra maps `student` and `bank` are both maps after
    `Norm`.

    Before the last training stage is finished, the student's `Norm` is unknown, and its map is used alone.

    Args:
        lambda_noise, lambda_influence: weights of response and influence.
        influence_neighbours: `K`, the number of entries for the influence.
        noise: arguments of :class:`NoiseSettings`; its amplitude is also used for the student's noise.
        student: arguments of :class:`StudentSettings`. With a student, the backbone returns the bank's levels first,
            then those that only the student uses.
        others: as for :class:`PatchCore`; distances are always Euclidean.
    """

    native_strategy_error = (
        "patchcore_noising stores the deviations of one task only; a bank per task needs --model.name patchcore"
    )
    deviation: Tensor
    quantiles: Tensor
    bank_images: Tensor
    map_moments: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        embedding: Mapping[str, Any] | None = None,
        coreset: Mapping[str, Any] | None = None,
        neighbours: int = 1,
        image_score: str = "max",
        reweight_neighbours: int = 9,
        sigma: float = 4.0,
        search: str = "torch",
        lambda_noise: float = 1.0,
        lambda_influence: float = 1.0,
        influence_neighbours: int = 9,
        noise: Mapping[str, Any] | None = None,
        student: Mapping[str, Any] | None = None,
        seed: int = 0,
    ):
        super().__init__(
            backbone,
            embedding=embedding,
            coreset=coreset,
            neighbours=neighbours,
            image_score=image_score,
            reweight_neighbours=reweight_neighbours,
            sigma=sigma,
            search=search,
            seed=seed,
        )
        check_arguments(NoiseSettings, noise or {}, "model.noise")
        check_arguments(StudentSettings, student or {}, "model.student")
        self.noise = NoiseSettings(**(noise or {}))
        if influence_neighbours < 1:
            raise AnoframeError(f"model.influence_neighbours is at least 1, got {influence_neighbours}")
        if self.noise.candidates < neighbours:
            got = f"{self.noise.candidates} and {neighbours}"
            raise AnoframeError(f"model.noise.candidates is at least model.neighbours, got {got}")
        self.lambda_noise, self.lambda_influence = lambda_noise, lambda_influence
        self.influence_neighbours = influence_neighbours
        self.register_buffer("deviation", torch.empty(0))
        self.register_buffer("quantiles", torch.zeros(2))
        self.register_buffer("bank_images", torch.empty(0, dtype=torch.int64))
        self.student = self._build_student(StudentSettings(**(student or {})))

    @property
    def is_active(self) -> bool:
        """Whether the patch score differs from PatchCore's."""
        return self.lambda_noise != 0 or self.lambda_influence != 0

    def _fill_bank(self, patches: Tensor, picks: Tensor) -> None:
        super()._fill_bank(patches, picks)
        self.bank_images = (picks // patches.shape[1]).to(self.bank.device)
        if self.is_active or self.student is not None:
            calibration = calibrate(patches, self.bank, self.bank_images, self.neighbours)
            self.deviation = calibration.deviation.to(self.bank.device)
            self.quantiles = torch.stack([calibration.q50, calibration.q95]).to(self.bank.device)

    # ------------------------------------------------------------------------------------------------ patch scores

    def patch_scores(self, patches: Tensor, search: Search | None = None) -> PatchScores:
        search = search or self.search
        if not self.is_active:
            return super().patch_scores(patches, search)
        count = max(self.noise.candidates, self.neighbours + SPARE, self.influence_neighbours + SPARE)
        entries = search.near(patches, count)
        xi = noise_vectors(self.noise.samples, patches.shape[1], self.noise.seed).to(patches)
        pairs = zip(patches.split(_CHUNK), entries.split(_CHUNK), strict=True)
        chunks = [self._score_chunk(z[:, None] - search.bank[rows], rows, xi) for z, rows in pairs]
        score, nearest, influence, amplitude, change = (torch.cat(values) for values in zip(*chunks, strict=True))
        return PatchScores(score, nearest, {"influence": influence, "amplitude": amplitude, "response": change})

    def _score_chunk(self, offsets: Tensor, entries: Tensor, xi: Tensor) -> tuple[Tensor, ...]:
        """Compute score, nearest entry, influence, amplitude and response of patches.

        Args:
            offsets: `[N, C, D]`, each patch minus the entries near it.
            entries: `[N, C]`, bank rows of these entries, in ascending order.
            xi: `[S, D]`, noise vectors.

        Returns:
            Five tensors `[N]`.
        """
        distances, order = offsets.norm(dim=2).sort(dim=1, stable=True)
        distance = self._distance(distances[:, : self.neighbours])
        closest = order[:, : self.influence_neighbours, None].expand(-1, -1, offsets.shape[2])
        gradient = influence_gradient(offsets.gather(1, closest))
        influence = gradient.norm(dim=1)
        amplitude = noise_amplitude(distance, self.quantiles[0], self.quantiles[1], self.noise)
        scale = self.noise.tau * amplitude[:, None] * self.deviation * noise_shape(gradient, self.noise.alpha)
        change = response(offsets, scale, xi, self.neighbours)
        score = (distance + self.lambda_noise * change) * (1 + self.lambda_influence * influence)
        return score, entries.gather(1, order[:, :1])[:, 0], influence, amplitude, change

    # ------------------------------------------------------------------------------------------------ student

    def _build_student(self, settings: StudentSettings) -> NoisedStudent | None:
        """Build the student, and replace the backbone by one that also returns the student's levels."""
        if not settings.enable:
            return None
        backbone: Any = self.backbone
        names = backbone.level_names(settings.levels)
        self._num_bank_levels = len(backbone.levels)
        if additional := [name for name in dict.fromkeys(names) if name not in backbone.levels]:
            self.backbone = backbone = backbone.with_levels((*backbone.levels, *additional))
        self._student_levels = [backbone.levels.index(name) for name in names]
        self.register_buffer("map_moments", torch.empty(0, 2))  # mean and deviation: bank map, student map
        channels, strides, signed = (
            [per_level[i] for i in self._student_levels]
            for per_level in (backbone.channels, backbone.strides, backbone.signed)
        )
        if not names or len(set(names)) != len(names) or strides != sorted(strides):
            got = ", ".join(f"{name} at stride {stride}" for name, stride in zip(names, strides, strict=True)) or "none"
            raise AnoframeError(f"model.student.levels names each level once, at least one, shallow first; got {got}")
        return NoisedStudent(channels, strides, signed, settings)

    def embed(self, features: Features) -> tuple[Tensor, tuple[int, int]]:
        return super().embed(features if self.student is None else features[: self._num_bank_levels])

    def _student_features(self, features: Features) -> list[Tensor]:
        return [features[i] for i in self._student_levels]

    def training_stages(self) -> Sequence[Observation | Phase]:
        """The coreset; with a student also amplitudes of its noise, gradient descent, and its `Norm`."""
        (coreset,) = super().training_stages()
        if self.student is None:
            return [coreset]
        student = self.student
        finish_noise, loss = partial(self._finish_noise, student), partial(self._loss, student)
        observe_norm, finish_norm = partial(self._observe_norm, student), partial(self._finish_norm, student)
        return [
            coreset,
            Observation("noise", self._begin_noise, self._observe_noise, finish_noise),
            Phase("student", {f"student.{name}": value for name, value in student.named_parameters()}, loss),
            Observation("norm", self._begin_norm, observe_norm, finish_norm),
        ]

    def _begin_noise(self, images: int) -> None:
        self._amplitudes: list[Tensor] = []
        self._channel_moments = [Moments() for _ in self._student_levels]
        self._bank_map_moments = Moments()

    def _observe_noise(self, features: Features, samples: Sequence[Sample]) -> None:
        patches, grid = self.embed(features)
        first = len(self._amplitudes)
        self.prepare_detection()
        rows = torch.arange(len(patches), device=patches.device)
        for result in map_images(lambda row: self._scores_without_own(patches[int(row)], first + int(row)), rows):
            self._amplitudes.append(self._amplitude(result).unflatten(0, grid))
            scores = result.score.unflatten(0, grid)[None]
            maps = gaussian_blur(upsample(scores, self._image_size(features)), self.sigma)
            self._bank_map_moments.add(maps.view(-1, 1))
        for moments, level in zip(self._channel_moments, self._student_features(features), strict=True):
            for image in level:  # one by one, so that the sum is the same for any batch size
                moments.add(image.flatten(1).T)

    def _scores_without_own(self, patches: Tensor, image: int) -> PatchScores:
        """Scores of a training image's patches, from the bank entries of other images."""
        own = self.bank_images == image
        return self.patch_scores(patches, Search(self.bank[~own], self._engine) if bool(own.any()) else None)

    def _amplitude(self, result: PatchScores) -> Tensor:
        if self.is_active:
            return result.extra["amplitude"]
        return noise_amplitude(result.score, self.quantiles[0], self.quantiles[1], self.noise)

    def _finish_noise(self, student: NoisedStudent) -> None:
        student.amplitude = torch.stack(self._amplitudes)
        student.deviation = torch.cat([moments.deviation for moments in self._channel_moments])
        self.map_moments = torch.stack([self._bank_map_moments.mean, self._bank_map_moments.deviation], 1)

    def _loss(self, student: NoisedStudent, batch: TrainingBatch) -> dict[str, Tensor]:
        return {"cosine": student.loss(self._student_features(batch.features), batch.rows)}

    def _begin_norm(self, images: int) -> None:
        self._student_map_moments = Moments()

    def _observe_norm(self, student: NoisedStudent, features: Features, samples: Sequence[Sample]) -> None:
        size = self._image_size(features)
        maps = self.map_in_eval_mode(
            lambda batch: student.anomaly_map(batch, size, self.sigma), self._student_features(features)
        )
        for single in torch.cat(maps):
            self._student_map_moments.add(single.view(-1, 1))

    def _finish_norm(self, student: NoisedStudent) -> None:
        moments = torch.stack([self._student_map_moments.mean, self._student_map_moments.deviation], 1)
        self.map_moments = torch.cat([self.map_moments[:1], moments])
        student.amplitude = torch.empty(0, device=moments.device)

    def _image_size(self, features: Features) -> tuple[int, int]:
        """Size of the images of these features; slightly more if the stride does not divide it."""
        height, width = features[0].shape[-2:]
        stride = int(self.backbone.strides[0])  # type: ignore[index]
        return height * stride, width * stride

    # ------------------------------------------------------------------------------------------------ detecting

    def compute_prediction(self, features: Features, size: tuple[int, int]) -> Prediction:
        return self.with_student(super().compute_prediction(features, size), features, size)

    def detection_graph(self, size: tuple[int, int]) -> nn.Module:
        return NoisingGraph(self, size)

    def with_student(self, bank: Prediction, features: Features, size: tuple[int, int]) -> Prediction:
        """Combine the prediction of the bank with the student's; without a student it stays as it is."""
        if self.student is None:
            return bank
        maps, extra = self.student.anomaly_map(self._student_features(features), size, self.sigma), bank.extra_maps
        if len(self.map_moments) == 2:
            pairs = zip((bank.anomaly_map, maps), self.map_moments, strict=True)
            bank_map, student_map = ((values - mean) / std.clamp(min=1e-12) for values, (mean, std) in pairs)
            extra = {**extra, "bank": bank_map, "student": student_map}
            beta = self.student.beta
            if beta == 0:
                return replace(bank, extra_maps=extra)
            if beta < 1:
                maps = beta * student_map + (1 - beta) * bank_map
        return Prediction(maps.flatten(1).amax(1), maps, extra)
