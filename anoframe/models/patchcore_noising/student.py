"""A reverse-distillation student that learns from noised maps of its teacher, and says what it cannot rebuild.

The student of PatchCore-noising, a proposal of this project. While it learns, what enters it is

    phi_l + tau * a_l(h, w) * std_l(c) * xi

`phi_l` the teacher's map of a level, `a_l` how much noise is proposed for each place of that training image, `std_l`
the deviation of each channel over all training images, `xi` standard normal. What it is compared with are the clean
maps. With `tau` zero nothing is drawn, and a step is that of RD4AD, to the bit (Deng and Li, "Anomaly Detection via
Reverse Distillation from One-Class Embedding", CVPR 2022). When it is asked, there is no noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.rd4ad.network import (
    LOSSES,
    ReverseDistillation,
    reverse_distillation_loss,
)


@dataclass(frozen=True)
class Student:
    """The optional student, and how it is weighed against the memory bank.

    Args:
        enable: whether there is one.
        levels: of the backbone, shallow first, that it rebuilds; the bank keeps to `model.backbone.levels`.
        tau: strength of the noise while it learns; 0 adds none.
        beta: weight of its map; the bank's has `1 - beta`. 1 is the student alone, 0 the bank alone.
        loss: `"flat"` compares a level as one vector (RD4AD's code), `"local"` place by place (its paper).
        width: of its blocks; 0.5 is RD4AD's own for WideResNet-50-2, 0.25 a lighter one.
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
    """The network, and what its noise is made of.

    Args:
        channels, strides: of the teacher's levels, shallow first.
        signed: whether each level has negative values too.
        settings: see :class:`Student`.

    Attributes:
        amplitude: `[images, h, w]`, `a` of each training image; empty before and after it learns.
        deviation: `[sum of channels]`, `std` of all levels one after another.
    """

    amplitude: Tensor
    deviation: Tensor

    def __init__(self, channels: Sequence[int], strides: Sequence[int], signed: Sequence[bool], settings: Student):
        super().__init__()
        self.channels = list(channels)
        self.tau, self.beta, self.kind = settings.tau, settings.beta, settings.loss
        self.network = ReverseDistillation(channels, strides, signed, width=settings.width)
        self.register_buffer("amplitude", torch.empty(0))
        self.register_buffer("deviation", torch.empty(0))

    def loss(self, teacher: list[Tensor], rows: Tensor) -> Tensor:
        """Mean over the images of what the student misses of the clean maps, in train mode shown noised ones.

        Args:
            teacher: `[B, C_l, h_l, w_l]` a level.
            rows: `[B]`, the place of each among the training images.
        """
        shown = self.noised(teacher, rows) if self.training and self.tau else teacher
        return reverse_distillation_loss(teacher, self.network(shown), self.kind)

    def noised(self, teacher: list[Tensor], rows: Tensor) -> list[Tensor]:
        """The maps of training images with noise added, drawn by torch's global generator."""
        amplitude = self.amplitude[rows.to(self.amplitude.device), None]  # [B, 1, h, w]
        spread = [part[:, None, None] for part in self.deviation.split(self.channels)]  # [C_l, 1, 1] each
        return [
            level + self.tau * _resized(amplitude, level) * std * torch.randn_like(level)
            for level, std in zip(teacher, spread, strict=True)
        ]


class Moments:
    """Mean and standard deviation of columns `[n, k]` that come an image at a time, summed in float64."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = self._square = torch.zeros(1, dtype=torch.float64)

    def add(self, values: Tensor) -> None:
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


def _resized(amplitude: Tensor, level: Tensor) -> Tensor:
    return F.interpolate(amplitude, size=level.shape[-2:], mode="bilinear", align_corners=False)
