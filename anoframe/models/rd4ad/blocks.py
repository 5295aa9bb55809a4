"""Building blocks of the RD4AD student: residual blocks that keep, halve or double the resolution."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.errors import AnoframeError

BLOCKS = ("bottleneck", "basic")


class Residual(nn.Module):
    """Residual block of a ResNet, at half the resolution (`scale` 0.5), the same (1) or double (2).

    To double the resolution, a transposed 2x2 convolution replaces the strided convolution of a ResNet.

    Args:
        inputs, outputs: numbers of channels.
        inner: width between the 1x1 convolutions of a bottleneck block; None makes a basic block.
        scale: output resolution divided by input resolution.
    """

    def __init__(self, inputs: int, outputs: int, inner: int | None, scale: float = 1):
        super().__init__()
        if inner is None:
            layers = [resample(inputs, outputs, 3, scale), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
            layers += [resample(outputs, outputs, 3)]
        else:
            layers = [resample(inputs, inner, 1), nn.BatchNorm2d(inner), nn.ReLU(inplace=True)]
            layers += [resample(inner, inner, 3, scale), nn.BatchNorm2d(inner), nn.ReLU(inplace=True)]
            layers += [resample(inner, outputs, 1)]
        self.residual = nn.Sequential(*layers, nn.BatchNorm2d(outputs))
        shortcut = (resample(inputs, outputs, 1, scale), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Identity() if inputs == outputs and scale == 1 else nn.Sequential(*shortcut)

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu_(self.residual(maps).add_(self.shortcut(maps)))


def conv_bn_relu(inputs: int, outputs: int, kernel: int, scale: float = 1) -> nn.Sequential:
    return nn.Sequential(resample(inputs, outputs, kernel, scale), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def resample(inputs: int, outputs: int, kernel: int, scale: float = 1) -> nn.Module:
    """Convolution without bias that keeps, halves (`scale` 0.5) or doubles (2) the resolution."""
    if scale == 2:
        return nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=False)
    return nn.Conv2d(inputs, outputs, kernel, stride=2 if scale == 0.5 else 1, padding=kernel // 2, bias=False)


def inner_width(block: str, outputs: int, width: float, minimum: int) -> int | None:
    """Inner width of a residual block, a multiple of 8; None for a basic block."""
    return None if block == "basic" else max(minimum, round_up_to_8(outputs * width))


def round_up_to_8(width: float) -> int:
    return 8 * math.ceil(round(width / 8, 6))


def initialise(module: nn.Module) -> None:
    """Initialise a layer as the authors' code does.

    Transposed convolutions and batch norms keep torch's default: for a batch norm, weight 1 and bias 0.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def check_blocks(width: float, code_width: float, block: str, code_depth: int) -> None:
    """Raise AnoframeError if an option of the blocks is out of range."""
    if width <= 0 or code_width <= 0:
        raise AnoframeError(f"model.width and model.code_width are above 0, got {width} and {code_width}")
    if block not in BLOCKS:
        raise AnoframeError(f"model.block is one of {', '.join(BLOCKS)}, got {block!r}")
    if code_depth < 1:
        raise AnoframeError(f"model.code_depth is at least 1, got {code_depth}")
