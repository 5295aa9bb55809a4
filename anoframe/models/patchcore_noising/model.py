"""PatchCore with adaptive propose-noising: how a patch's distance answers to noise, and which way its neighbours lie.

A proposal of this project (the document it grew from names the idea, not the equations). For a patch `z` and the bank:

1. `d(z)`   mean distance to the nearest entries: PatchCore's score.
2. `I(z)`   influence: norm of the gradient of the mean distance to the `K` nearest entries, in [0, 1].
3. `a(z)`   noise amplitude: grows with `d` from `a_min` to `a_max`, calibrated on distances of training images.
4. `eps_s`  noise `tau * a(z) * v * w * xi_s`: `v` the nominal deviation of each dimension, `w` its share in the
   gradient, `xi_s` fixed normal vectors in antithetic pairs.
5. `R(z)`   response: mean over `s` of `d(z + eps_s)`, minus `d(z)`.
6. `s(z)`   `[d + lambda_noise R] * [1 + lambda_influence I]`.

The noise vectors are the same for all patches, so a score is repeatable and depends on no other image. With both
weights zero, or `tau` zero and no influence, this is PatchCore to the bit. What it gains over PatchCore is measured in
`docs/patchcore_noising.md`.

Beside the bank there may be a student (`model.student`, off by default), which learns by gradient descent to rebuild
the backbone's maps from noised ones; see :mod:`anoframe.models.patchcore_noising.student`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from anoframe.errors import AnoframeError
from anoframe.models.base import Features, Observation, Phase, TrainingBatch
from anoframe.models.components.anomaly_map import gaussian_blur, upsample
from anoframe.models.components.nearest import SPARE, Search, nearest
from anoframe.models.patchcore.model import PatchCore, PatchScores
from anoframe.models.patchcore_noising.student import Moments, NoisedStudent, Student
from anoframe.registry import check_arguments
from anoframe.types import Prediction, Sample
from anoframe.utils.parallel import map_images

AMPLITUDES = ("adaptive", "constant", "reversed")
CALIBRATION_IMAGES = 20
# Patches whose candidates are gathered at once: 64 * 64 * 1024 numbers are 17 MB. From 32 MB on glibc asks the system
# for the memory of every chunk anew, and the scores take twice as long.
_CHUNK = 64


@dataclass(frozen=True)
class Noise:
    """What is added to a patch, and how.

    Args:
        tau: overall strength; 0 adds nothing.
        a_min, a_max: range of the amplitude, in units of the nominal deviation.
        amplitude: `"adaptive"` (far patches get more), or for ablations `"constant"` (the middle of the range) or
            `"reversed"` (near patches get more).
        alpha: 1 puts more noise on dimensions with more influence, 0 the same on all.
        samples: `S`, an even number (antithetic pairs).
        seed: draws the noise vectors.
        candidates: `z + eps` is searched among at least so many nearest entries of `z`; an upper bound of the exact
            response, equal to it when it covers the bank.
    """

    tau: float = 1.0
    a_min: float = 0.01
    a_max: float = 0.5
    amplitude: str = "adaptive"
    alpha: float = 1.0
    samples: int = 4
    seed: int = 0
    candidates: int = 64

    def __post_init__(self) -> None:
        if self.amplitude not in AMPLITUDES:
            raise AnoframeError(f"model.noise.amplitude is one of {', '.join(AMPLITUDES)}, got {self.amplitude!r}")
        if not 0 <= self.a_min <= self.a_max:
            raise AnoframeError(f"model.noise wants 0 <= a_min <= a_max, got {self.a_min} and {self.a_max}")
        if self.samples < 2 or self.samples % 2:
            raise AnoframeError(f"model.noise.samples is even, because noise comes in pairs; got {self.samples}")
        if self.alpha < 0:
            raise AnoframeError(f"model.noise wants alpha >= 0, got {self.alpha}")
        if self.tau < 0 or self.candidates < 1:
            raise AnoframeError(f"model.noise wants tau >= 0 and candidates >= 1, got {self.tau}, {self.candidates}")


@dataclass(frozen=True)
class Calibration:
    """What normal is, from training patches only."""

    deviation: Tensor  # [D], standard deviation of each dimension
    q50: Tensor  # [], median of the distances of training images to the entries of other images
    q95: Tensor  # [], their 95 % quantile


class PatchCoreNoising(PatchCore):
    """PatchCore whose patch score is `[d + lambda_noise R] * [1 + lambda_influence I]`.

    With a student the map is `beta * Norm(student's) + (1 - beta) * Norm(bank's)`, both smoothed, and the image score
    its maximum. `Norm` takes away the mean and divides by the deviation over the training images; there the bank's map
    of an image is made without the entries that came from it. At the ends one part stands alone, in its own units:
    `beta = 1` gives the student's map and its maximum, as RD4AD does; `beta = 0` what there is without a student, the
    bank's map and the image score of its patches. The extra maps `student` and `bank` are the two after `Norm`.

    Until the last step of learning is done the student's `Norm` is not known, and the student stands alone.

    Args:
        lambda_noise, lambda_influence: weights of the two additions.
        influence_neighbours: `K`.
        noise: arguments of :class:`Noise`; its amplitude is also that of the student's noise.
        student: arguments of :class:`Student`. With one, the backbone gives the bank's levels first, and then those
            that only the student has.
        others: as for :class:`PatchCore`; distances here are always Euclidean.
    """

    cannot_expand = (
        "patchcore_noising knows the nominal deviations of one task, and a bank a task is for --model.name patchcore"
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
        check_arguments(Noise, noise or {}, "model.noise")
        check_arguments(Student, student or {}, "model.student")
        self.noise = Noise(**(noise or {}))
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
        self.student = self._with_student(Student(**(student or {})))

    @property
    def active(self) -> bool:
        """Whether anything is added to PatchCore at all."""
        return self.lambda_noise != 0 or self.lambda_influence != 0

    def _fill_bank(self, patches: Tensor, picks: Tensor) -> None:
        super()._fill_bank(patches, picks)
        self.bank_images = (picks // patches.shape[1]).to(self.bank.device)
        if self.active or self.student is not None:
            what = calibrate(patches, self.bank, self.bank_images, self.neighbours)
            self.deviation = what.deviation.to(self.bank.device)
            self.quantiles = torch.stack([what.q50, what.q95]).to(self.bank.device)

    def patch_scores(self, patches: Tensor, search: Search | None = None) -> PatchScores:
        search = search or self.search
        if not self.active:
            return super().patch_scores(patches, search)
        most = max(self.noise.candidates, self.neighbours + SPARE, self.influence_neighbours + SPARE)
        entries = search.near(patches, most)
        xi = noise_vectors(self.noise.samples, patches.shape[1], self.noise.seed).to(patches)
        pairs = zip(patches.split(_CHUNK), entries.split(_CHUNK), strict=True)
        parts = [self._noised(z[:, None] - search.bank[rows], rows, xi) for z, rows in pairs]
        score, first, influence, amplitude, change = (torch.cat(part) for part in zip(*parts, strict=True))
        return PatchScores(score, first, {"influence": influence, "amplitude": amplitude, "response": change})

    def _noised(self, away: Tensor, entries: Tensor, xi: Tensor) -> tuple[Tensor, ...]:
        """Score, nearest entry, influence, amplitude and response of patches, from `z - m` for the entries near each.

        Args:
            away: `[N, C, D]`.
            entries: `[N, C]`, their rows in the bank, rising.
            xi: `[S, D]`.
        """
        distances, order = away.norm(dim=2).sort(dim=1, stable=True)
        distance = self._distance(distances[:, : self.neighbours])
        closest = order[:, : self.influence_neighbours, None].expand(-1, -1, away.shape[2])
        gradient = influence_gradient(away.gather(1, closest))
        influence = gradient.norm(dim=1)
        amplitude = noise_amplitude(distance, self.quantiles[0], self.quantiles[1], self.noise)
        scale = self.noise.tau * amplitude[:, None] * self.deviation * noise_shape(gradient, self.noise.alpha)
        change = response(away, scale, xi, self.neighbours)
        score = (distance + self.lambda_noise * change) * (1 + self.lambda_influence * influence)
        return score, entries.gather(1, order[:, :1])[:, 0], influence, amplitude, change

    # ------------------------------------------------------------------------------------------------ the student

    def _with_student(self, settings: Student) -> NoisedStudent | None:
        """A student of the backbone, which is exchanged for one that gives the student's levels too."""
        if not settings.enable:
            return None
        backbone: Any = self.backbone
        names = backbone.level_names(settings.levels)
        self._bank_levels = len(backbone.levels)
        if beside := [name for name in dict.fromkeys(names) if name not in backbone.levels]:
            self.backbone = backbone = backbone.with_levels((*backbone.levels, *beside))
        self._student_levels = [backbone.levels.index(name) for name in names]
        self.register_buffer("map_moments", torch.empty(0, 2))  # mean and deviation: the bank's map, the student's
        channels, strides, signed = (
            [of_levels[i] for i in self._student_levels]
            for of_levels in (backbone.channels, backbone.strides, backbone.signed)
        )
        if not names or len(set(names)) != len(names) or strides != sorted(strides):
            got = ", ".join(f"{name} at stride {stride}" for name, stride in zip(names, strides, strict=True)) or "none"
            raise AnoframeError(f"model.student.levels names each level once, at least one, shallow first; got {got}")
        return NoisedStudent(channels, strides, signed, settings)

    def embed(self, features: Features) -> tuple[Tensor, tuple[int, int]]:
        return super().embed(features if self.student is None else features[: self._bank_levels])

    def _teacher(self, features: Features) -> list[Tensor]:
        return [features[i] for i in self._student_levels]

    def training_stages(self) -> Sequence[Observation | Phase]:
        """The bank; with a student also the noise for each training image, the descent, and the student's `Norm`."""
        (bank,) = super().training_stages()
        if self.student is None:
            return [bank]
        student = self.student
        conclude_noise, loss = partial(self._conclude_noise, student), partial(self._loss, student)
        observe_norm, conclude_norm = partial(self._observe_norm, student), partial(self._conclude_norm, student)
        return [
            replace(bank, name="bank"),
            Observation("noise", self._begin_noise, self._observe_noise, conclude_noise),
            Phase("student", {f"student.{name}": value for name, value in student.named_parameters()}, loss),
            Observation("norm", self._begin_norm, observe_norm, conclude_norm),
        ]

    def _begin_noise(self, images: int) -> None:
        self._amplitudes: list[Tensor] = []
        self._of_channels = [Moments() for _ in self._student_levels]
        self._of_map = Moments()

    def _observe_noise(self, features: Features, samples: Sequence[Sample]) -> None:
        patches, grid = self.embed(features)
        first = len(self._amplitudes)
        self.search  # noqa: B018 - built once, before threads share it
        rows = torch.arange(len(patches), device=patches.device)
        for found in map_images(lambda row: self._left_out(patches[int(row)], first + int(row)), rows):
            self._amplitudes.append(self._amplitude(found).unflatten(0, grid))
            scores = found.score.unflatten(0, grid)[None]
            self._of_map.add(gaussian_blur(upsample(scores, self._size(features)), self.sigma).view(-1, 1))
        for moments, level in zip(self._of_channels, self._teacher(features), strict=True):
            for image in level:  # one by one, so that the sum is the same whatever the batches
                moments.add(image.flatten(1).T)

    def _left_out(self, patches: Tensor, image: int) -> PatchScores:
        """Scores of a training image's patches by the entries that came from other images."""
        own = self.bank_images == image
        return self.patch_scores(patches, Search(self.bank[~own], self._engine) if bool(own.any()) else None)

    def _amplitude(self, found: PatchScores) -> Tensor:
        if self.active:
            return found.extra["amplitude"]
        return noise_amplitude(found.score, self.quantiles[0], self.quantiles[1], self.noise)

    def _conclude_noise(self, student: NoisedStudent) -> None:
        student.amplitude = torch.stack(self._amplitudes)
        student.deviation = torch.cat([moments.deviation for moments in self._of_channels])
        self.map_moments = torch.stack([self._of_map.mean, self._of_map.deviation], 1)

    def _loss(self, student: NoisedStudent, batch: TrainingBatch) -> dict[str, Tensor]:
        return {"cosine": student.loss(self._teacher(batch.features), batch.rows)}

    def _begin_norm(self, images: int) -> None:
        self._of_map = Moments()

    def _observe_norm(self, student: NoisedStudent, features: Features, samples: Sequence[Sample]) -> None:
        for one in self._student_maps(student, features, self._size(features)):
            self._of_map.add(one.view(-1, 1))

    def _conclude_norm(self, student: NoisedStudent) -> None:
        of_student = torch.stack([self._of_map.mean, self._of_map.deviation], 1)
        self.map_moments = torch.cat([self.map_moments[:1], of_student])
        student.amplitude = torch.empty(0, device=of_student.device)

    def _size(self, features: Features) -> tuple[int, int]:
        """Of the images that features belong to; a little more where the stride does not divide it."""
        height, width = features[0].shape[-2:]
        stride = int(self.backbone.strides[0])  # type: ignore[index]
        return height * stride, width * stride

    def _student_maps(self, student: NoisedStudent, features: Features, size: tuple[int, int]) -> Tensor:
        return gaussian_blur(student.network.anomaly_map(self._teacher(features), size), self.sigma)

    def detect(self, features: Features, size: tuple[int, int]) -> Prediction:
        bank = super().detect(features, size)
        if self.student is None:
            return bank
        maps, extra = self._student_maps(self.student, features, size), bank.extra_maps
        if len(self.map_moments) == 2:
            parts = zip((bank.anomaly_map, maps), self.map_moments, strict=True)
            of_bank, of_student = ((one - mean) / deviation.clamp(min=1e-12) for one, (mean, deviation) in parts)
            extra = {**extra, "bank": of_bank, "student": of_student}
            beta = self.student.beta
            if beta == 0:
                return replace(bank, extra_maps=extra)
            if beta < 1:
                maps = beta * of_student + (1 - beta) * of_bank
        return Prediction(maps.flatten(1).amax(1), maps, extra)


# -------------------------------------------------------------------------------------------------- the equations


def influence_gradient(away: Tensor) -> Tensor:
    """Gradient of the mean distance to the neighbours with respect to the patch (2).

    The mean of the unit vectors from the neighbours to the patch; a neighbour at the patch itself counts as zero. Its
    norm is near 1 outside the cloud of normal patches, where all neighbours lie the same way, and smaller inside.

    Args:
        away: `[N, K, D]`, the patch less each of its neighbours.

    Returns:
        `[N, D]`.
    """
    length = away.norm(dim=2, keepdim=True)
    return torch.where(length < 1e-12, 0, away / length).mean(1)


def noise_amplitude(distance: Tensor, q50: Tensor, q95: Tensor, noise: Noise) -> Tensor:
    """Amplitude of the noise from the distance (4), `[N]` in `[a_min, a_max]`."""
    excess = ((distance - q50) / (q95 - q50).clamp(min=torch.finfo(distance.dtype).tiny)).clamp(min=0)
    span = noise.a_max - noise.a_min
    if noise.amplitude == "constant":
        return torch.full_like(distance, noise.a_min + span / 2)
    if noise.amplitude == "reversed":
        return noise.a_min + span * torch.exp(-excess)
    return noise.a_min - span * torch.expm1(-excess)


def noise_shape(gradient: Tensor, alpha: float) -> Tensor:
    """Share of each dimension in the noise (5), `[N, D]` with root-mean-square 1; a zero gradient gets equal shares."""
    power = gradient.abs() ** alpha
    norm = power.norm(dim=1, keepdim=True)
    return torch.where(norm > 0, power / norm * gradient.shape[1] ** 0.5, 1.0)


def noise_vectors(samples: int, dim: int, seed: int) -> Tensor:
    """Standard normal vectors `[S, D]` in antithetic pairs, which add up to zero (6)."""
    half = torch.randn(samples // 2, dim, generator=torch.Generator().manual_seed(seed))
    return torch.cat([half, -half])


def response(away: Tensor, scale: Tensor, xi: Tensor, neighbours: int = 1) -> Tensor:
    """How much farther a patch is from its candidates when noise is added, on average (7).

    Args:
        away: `[N, C, D]`, the patch less each of the entries among which `z` and `z + eps` are searched.
        scale: `[N, D]`, deviation of the noise in each dimension.
        xi: `[S, D]`.
        neighbours: distances are means over so many nearest.

    Returns:
        `[N]`; exactly 0 where `scale` is.
    """
    squared = away.norm(dim=2).square()  # [N, C]
    eps = scale[:, None] * xi  # [N, S, D]
    moved = squared[:, :, None] + 2 * (away @ eps.transpose(1, 2)) + eps.square().sum(2)[:, None]  # [N, C, S]
    before = _mean_of_smallest(squared.sqrt(), neighbours)
    after = _mean_of_smallest(moved.clamp(min=0).sqrt().transpose(1, 2), neighbours)  # [N, S]
    return (after - before[:, None]).mean(1)


def _mean_of_smallest(distances: Tensor, count: int) -> Tensor:
    # over the last axis and contiguous, so that with and without noise the same numbers are added in the same order
    return distances.topk(min(count, distances.shape[-1]), largest=False).values.contiguous().mean(-1)


def calibrate(patches: Tensor, bank: Tensor, bank_images: Tensor, neighbours: int = 1) -> Calibration:
    """Nominal deviations and distances (3), once, from training patches.

    Distances are leave-one-image-out: a patch of a training image is measured against the entries of other images
    only, because those of its own are at distance zero. Up to `CALIBRATION_IMAGES` images, evenly spread.

    Args:
        patches: `[images, N, D]`.
        bank: `[M, D]`, rows of the patches.
        bank_images: `[M]`, the image of each row.

    Raises:
        AnoframeError: all entries come from one image.
    """
    if len(bank_images.unique()) < 2:
        raise AnoframeError(
            "noising is calibrated on distances between training images, and the bank comes from one image only: "
            "give it more training images or a larger model.coreset.ratio, or use patchcore"
        )
    chosen = torch.linspace(0, len(patches) - 1, min(CALIBRATION_IMAGES, len(patches))).round().long().unique()
    distances = [nearest(patches[i].to(bank), bank[bank_images != i], neighbours)[0].mean(1) for i in chosen.tolist()]
    q50, q95 = torch.cat(distances).quantile(torch.tensor([0.5, 0.95], dtype=bank.dtype, device=bank.device))
    return Calibration(_deviation(patches.flatten(0, 1)), q50, q95)


def _deviation(rows: Tensor, chunk: int = 65536) -> Tensor:
    """Standard deviation of each column of `[n, D]`, summed in float64 a chunk at a time."""
    mean = sum(part.sum(0, dtype=torch.float64) for part in rows.split(chunk)) / len(rows)
    square = sum((part.double() - mean).square().sum(0) for part in rows.split(chunk)) / len(rows)
    return torch.as_tensor(square).sqrt().to(rows.dtype)
