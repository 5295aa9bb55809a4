"""Optional student of PatchCore-noising: reverse distillation trained on noised feature maps of its teacher.

A proposal of this project. In training the input of the network is

    phi_l + tau * a_l(h, w) * std_l(c) * xi

`phi_l` is the teacher's map of level `l`, `a_l` the noise amplitude at each location of that training image, `std_l`
the standard deviation of each channel over all training images, `xi` standard normal. The loss compares the output
with the clean maps. With `tau` zero nothing is drawn, and a step equals one of RD4AD, to the bit (Deng and Li, "Anomaly
Detection via Reverse Distillation from One-Class Embedding", CVPR 2022). At test time there is no noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.components.anomaly_map import gaussian_blur
from anoframe.models.rd4ad.loss import LOSSES, distillation_map, reverse_distillation_loss
from anoframe.models.rd4ad.student import ReverseDistillation


@dataclass(frozen=True)
class StudentSettings:
    """The optional student, and the weight of its map.

    Args:
        enable: whether there is a student.
        levels: backbone levels that it reconstructs, shallow first; the bank uses `model.backbone.levels`.
        tau: strength of the noise in training; 0 adds none.
        beta: weight of its map; the bank's map has `1 - beta`. 1 is the student alone, 0 the bank alone.
        loss: `"flat"` compares a level as one vector (RD4AD's code), `"local"` location by location (its paper).
        width: inner width of its blocks; 0.5 is RD4AD's value for WideResNet-50-2, 0.25 a lighter one.
    """

    enable: bool = False
    levels: Sequence[int | str] = (1, 2, 3)
    tau: float = 1.0
    beta: float = 0.5
    loss: str = "flat"
    width: float = 0.5

    def __post_init__(self) -> None:
        if self.tau < 0:
            raise AnoframeError(f"model.student.tau is 0 or more, got {self.tau}")
        if not 0 <= self.beta <= 1:
            raise AnoframeError(f"model.student.beta lies between 0 (bank) and 1 (student), got {self.beta}")
        if self.width <= 0:
            raise AnoframeError(f"model.student.width is above 0, got {self.width}")
        if self.loss not in LOSSES:
            raise AnoframeError(f"model.student.loss is one of {', '.join(LOSSES)}, got {self.loss!r}")


class NoisedStudent(nn.Module):
    """The student network, and the statistics that scale its noise.

    Args:
        channels, strides: of the teacher's levels, shallow first.
        signed: whether each level has negative values.
        settings: see :class:`StudentSettings`.

    Attributes:
        amplitude: `[images, h, w]`, `a` of each training image; empty before and after training.
        deviation: `[sum of channels]`, `std` of all levels, concatenated.
    """

    amplitude: Tensor
    deviation: Tensor

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], signed: Sequence[bool], settings: StudentSettings
    ):
        super().__init__()
        self.channels = list(channels)
        self.tau, self.beta, self.kind = settings.tau, settings.beta, settings.loss
        self.network = ReverseDistillation(channels, strides, signed, width=settings.width)
        self.register_buffer("amplitude", torch.empty(0))
        self.register_buffer("deviation", torch.empty(0))

    def loss(self, teacher: list[Tensor], rows: Tensor) -> Tensor:
        """Compute the reconstruction loss against the clean maps; in train mode the input is noised.

        Args:
            teacher: one map `[B, C_l, h_l, w_l]` per level.
            rows: `[B]`, position of each image among the training images.
        """
        inputs = self.add_noise(teacher, rows) if self.training and self.tau else teacher
        return reverse_distillation_loss(teacher, self.network(inputs), self.kind)

    def add_noise(self, teacher: list[Tensor], rows: Tensor) -> list[Tensor]:
        """Add noise to the maps of training images, drawn from torch's global generator."""
        amplitude = self.amplitude[rows.to(self.amplitude.device), None]  # [B, 1, h, w]
        deviations = [level[:, None, None] for level in self.deviation.split(self.channels)]  # [C_l, 1, 1] each
        return [
            level + self.tau * _resize(amplitude, level) * std * torch.randn_like(level)
            for level, std in zip(teacher, deviations, strict=True)
        ]

    def anomaly_map(self, teacher: list[Tensor], size: tuple[int, int], sigma: float) -> Tensor:
        """Compute smoothed anomaly maps `[B, H, W]` of `size` from the teacher's maps."""
        return gaussian_blur(distillation_map(teacher, self.network(teacher), size), sigma)


class Moments:
    """Mean and standard deviation of the columns of `[n, k]`, accumulated in float64, one block of rows at a time."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = self._square = torch.zeros(1, dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """Add rows `[n, k]`."""
        values = values.double()
        self._count += len(values)
        self._sum = self._sum.to(values.device) + values.sum(0)
        self._square = self._square.to(values.device) + values.square().sum(0)

    @property
    def mean(self) -> Tensor:
        """`[k]` float32."""
        return (self._sum / self._count).float()

    @property
    def deviation(self) -> Tensor:
        """`[k]` float32."""
        variance = self._square / self._count - (self._sum / self._count).square()
        return variance.clamp(min=0).sqrt().float()


def _resize(amplitude: Tensor, level: Tensor) -> Tensor:
    return F.interpolate(amplitude, size=level.shape[-2:], mode="bilinear", align_corners=False)
