"""Noise of PatchCore-noising: settings, equations and calibration. Numbers in brackets count the equations.

For a patch `z` and a memory bank:

1. `d(z)`   mean distance to the nearest entries: PatchCore's score.
2. `I(z)`   influence: norm of the gradient of the mean distance to the `K` nearest entries, in [0, 1].
3. calibration on training patches: deviation of each dimension, median and 95 % quantile of `d`.
4. `a(z)`   noise amplitude: rises with `d` from `a_min` to `a_max`.
5. `w(z)`   share of each dimension in the noise, from its share in the gradient.
6. `xi_s`   fixed normal vectors in antithetic pairs; the noise is `eps_s = tau * a(z) * v * w * xi_s`, where `v` is the
   deviation of each dimension.
7. `R(z)`   response: mean over `s` of `d(z + eps_s)`, minus `d(z)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from anoframe.errors import AnoframeError
from anoframe.models.components.nearest import nearest

AMPLITUDES = ("adaptive", "constant", "reversed")
CALIBRATION_IMAGES = 20


@dataclass(frozen=True)
class NoiseSettings:
    """Noise that is added to a patch.

    Args:
        tau: overall strength; 0 adds nothing.
        a_min, a_max: range of the amplitude, in units of the deviation of each dimension.
        amplitude: `"adaptive"` (patches far from the bank get more), or for ablations `"constant"` (the middle of the
            range) or `"reversed"` (patches near the bank get more).
        alpha: 1 puts more noise on dimensions with more influence, 0 the same on all.
        samples: `S`, an even number (antithetic pairs).
        seed: seed of the noise vectors.
        candidates: number of nearest entries of `z` among which `z + eps` is searched; the resulting response is an
            upper bound of the exact one, and equal to it if the candidates cover the bank.
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
            raise AnoframeError(f"model.noise needs 0 <= a_min <= a_max, got {self.a_min} and {self.a_max}")
        if self.samples < 2 or self.samples % 2:
            raise AnoframeError(f"model.noise.samples is even, because noise comes in pairs; got {self.samples}")
        if self.alpha < 0:
            raise AnoframeError(f"model.noise needs alpha >= 0, got {self.alpha}")
        if self.tau < 0 or self.candidates < 1:
            raise AnoframeError(f"model.noise needs tau >= 0 and candidates >= 1, got {self.tau}, {self.candidates}")


@dataclass(frozen=True)
class Calibration:
    """Statistics of normal patches, from training images only (3).

    Attributes:
        deviation: `[D]`, standard deviation of each dimension.
        q50: scalar tensor, median of the distances of training patches to the entries of other images.
        q95: scalar tensor, their 95 % quantile.
    """

    deviation: Tensor
    q50: Tensor
    q95: Tensor


def influence_gradient(offsets: Tensor) -> Tensor:
    """Compute the gradient of the mean distance to the neighbours with respect to the patch (2).

    This is the mean of the unit vectors from the neighbours to the patch; a neighbour equal to the patch counts as
    zero. Its norm is near 1 outside the normal patches, where all neighbours lie in one direction, and smaller inside.

    Args:
        offsets: `[N, K, D]`, the patch minus each of its neighbours.

    Returns:
        `[N, D]`.
    """
    length = offsets.norm(dim=2, keepdim=True)
    return torch.where(length < 1e-12, 0, offsets / length).mean(1)


def noise_amplitude(distance: Tensor, q50: Tensor, q95: Tensor, noise: NoiseSettings) -> Tensor:
    """Compute the amplitude of the noise from the distance (4), `[N]` in `[a_min, a_max]`."""
    excess = ((distance - q50) / (q95 - q50).clamp(min=torch.finfo(distance.dtype).tiny)).clamp(min=0)
    span = noise.a_max - noise.a_min
    if noise.amplitude == "constant":
        return torch.full_like(distance, noise.a_min + span / 2)
    if noise.amplitude == "reversed":
        return noise.a_min + span * torch.exp(-excess)
    return noise.a_min - span * torch.expm1(-excess)


def noise_shape(gradient: Tensor, alpha: float) -> Tensor:
    """Compute the share of each dimension in the noise (5), `[N, D]` with root mean square 1.

    A zero gradient gives equal shares.
    """
    power = gradient.abs() ** alpha
    norm = power.norm(dim=1, keepdim=True)
    return torch.where(norm > 0, power / norm * gradient.shape[1] ** 0.5, 1.0)


def noise_vectors(samples: int, dim: int, seed: int) -> Tensor:
    """Draw standard normal vectors `[S, D]` in antithetic pairs, whose sum is zero (6)."""
    half = torch.randn(samples // 2, dim, generator=torch.Generator().manual_seed(seed))
    return torch.cat([half, -half])


def response(offsets: Tensor, scale: Tensor, xi: Tensor, neighbours: int = 1) -> Tensor:
    """Compute the mean increase of a patch's distance under noise (7).

    Args:
        offsets: `[N, C, D]`, the patch minus each candidate entry; both `z` and `z + eps` are searched among these.
        scale: `[N, D]`, standard deviation of the noise in each dimension.
        xi: `[S, D]`.
        neighbours: number of nearest entries; a distance is the mean over them.

    Returns:
        `[N]`; exactly 0 where `scale` is 0.
    """
    squared = offsets.norm(dim=2).square()  # [N, C]
    eps = scale[:, None] * xi  # [N, S, D]
    moved = squared[:, :, None] + 2 * (offsets @ eps.transpose(1, 2)) + eps.square().sum(2)[:, None]  # [N, C, S]
    before = _mean_of_smallest(squared.sqrt(), neighbours)
    after = _mean_of_smallest(moved.clamp(min=0).sqrt().transpose(1, 2), neighbours)  # [N, S]
    return (after - before[:, None]).mean(1)


def _mean_of_smallest(distances: Tensor, count: int) -> Tensor:
    # Over the last axis and contiguous, so that values with and without noise are added in the same order
    return distances.topk(min(count, distances.shape[-1]), largest=False).values.contiguous().mean(-1)


def calibrate(patches: Tensor, bank: Tensor, bank_images: Tensor, neighbours: int = 1) -> Calibration:
    """Compute deviations and quantiles of distances from training patches (3).

    Distances leave out the own image: a patch of a training image is measured against the entries of other images only,
    because entries of its own image may be at distance zero. At most `CALIBRATION_IMAGES` images, evenly spread.

    Args:
        patches: `[images, N, D]`.
        bank: `[M, D]`, a selection of the patches.
        bank_images: `[M]`, the image of each entry.

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
    return Calibration(_column_deviation(patches.flatten(0, 1)), q50, q95)


def _column_deviation(rows: Tensor, chunk: int = 65536) -> Tensor:
    """Standard deviation of each column of `[n, D]`, accumulated in float64, one chunk of rows at a time."""
    mean = sum(part.sum(0, dtype=torch.float64) for part in rows.split(chunk)) / len(rows)
    square = sum((part.double() - mean).square().sum(0) for part in rows.split(chunk)) / len(rows)
    return torch.as_tensor(square).sqrt().to(rows.dtype)
