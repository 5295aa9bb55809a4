"""Reverse distillation: a student that rebuilds a teacher's feature maps from one small code of them.

    teacher maps --bottleneck: fusion, then embedding--> code --decoder--> student maps, to be like the teacher's

Deng & Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR 2022. For the levels of
WideResNet-50-2 at strides 4, 8 and 16 this is the network of the authors' code, less a convolution that it declares and
never uses; for other pyramids it is built by the same rules.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.components.anomaly_map import upsample
from anoframe.utils.parallel import map_images

BLOCKS = ("bottleneck", "basic")
LOSSES = ("flat", "local")
COMBINATIONS = ("sum", "product")


class ReverseDistillation(nn.Module):
    """Bottleneck and decoder for the levels of any pyramid, the shallowest first.

    Args:
        channels, strides: of each teacher level; strides rise by powers of two, or stay.
        signed: whether a level has negative values, for all levels or for each. The decoder ends in a ReLU, which suits
            a teacher that does; a signed level gets a linear 1x1 convolution behind it.
        width: inner width of a bottleneck block, as a share of its output; 0.5 is that of WideResNet-50-2, 0.25 that of
            ResNet-50.
        code_width: the same for the blocks that make the code, where it differs: 0.25 is what ADer and anomalib have.
        depths: residual blocks of each level, **the deepest first**; None: (3, 4, 6) for three levels, else 3 each.
        fuse: False makes the code of the deepest level alone.
        block: `"bottleneck"`, or `"basic"` as in ResNet-18 and 34, where `width` has no meaning.
        code_depth: residual blocks that make the code.

    Raises:
        AnoframeError: names the key of the config's `model` section that is wrong.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        signed: bool | Sequence[bool],
        width: float = 0.5,
        code_width: float | None = None,
        depths: Sequence[int] | None = None,
        fuse: bool = True,
        block: str = "bottleneck",
        code_depth: int = 3,
    ):
        super().__init__()
        _check_strides(strides)
        depths = _checked_depths(depths, len(channels))
        code_width = width if code_width is None else code_width
        _check_blocks(width, code_width, block, code_depth)
        fused = max(channels[-1], 64)
        code = 2 * fused

        finer = [_branch(c, fused, strides[-1] // s) for c, s in zip(channels[:-1], strides[:-1], strict=True) if fuse]
        deepest = nn.Identity() if channels[-1] == fused else _conv_bn_relu(channels[-1], fused, 1)
        self.branches = nn.ModuleList([*finer, deepest])
        self.fuse = fuse

        inner = _inner(block, code, code_width, 64)
        inputs = [len(self.branches) * fused, *[code] * (code_depth - 1)]
        self.code = nn.Sequential(*(Residual(c, code, inner, 1 if i else 0.5) for i, c in enumerate(inputs)))

        widths, grids = [*channels, code], [*strides, 2 * strides[-1]]
        self.stages = nn.ModuleList(
            _stage(widths[i + 1], widths[i], grids[i + 1] // grids[i], depth, width, block)
            for i, depth in enumerate(reversed(depths))
        )
        each = (signed,) * len(channels) if isinstance(signed, bool) else signed
        heads = (nn.Conv2d(c, c, 1) if s else nn.Identity() for c, s in zip(channels, each, strict=True))
        self.heads = nn.ModuleList(heads)
        self.apply(_initialise)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The student's maps of the teacher's maps, `[B, C_l, h_l, w_l]` each, of equal shapes.

        Raises:
            AnoframeError: maps of two levels differ by more than a pixel from what their strides say.
        """
        stream = self.code(self.fused(features))
        student = []
        for stage, head, level in reversed([*zip(self.stages, self.heads, features, strict=True)]):
            stream = fitted(stage(stream), level)
            student.append(head(stream))
        return student[::-1]

    @torch.no_grad()
    def anomaly_map(self, features: Sequence[Tensor], size: tuple[int, int], combine: str = "sum") -> Tensor:
        """`distillation_map` of a teacher's maps, `[B, H, W]`, in eval mode whatever mode it is in.

        On a CPU an image's map does not depend on its batch, to the bit (`anoframe.utils.parallel.map_images`).
        """
        mode = self.training
        self.eval()
        try:
            if features[0].device.type != "cpu":
                return self._map(features, size, combine)
            rows = torch.arange(len(features[0]))
            return torch.cat(map_images(lambda row: self._map([level[row] for level in features], size, combine), rows))
        finally:
            self.train(mode)

    def _map(self, features: Sequence[Tensor], size: tuple[int, int], combine: str) -> Tensor:
        return distillation_map(features, self(features), size, combine)

    def fused(self, features: Sequence[Tensor]) -> Tensor:
        """All levels at the grid of the deepest, side by side: what the code is made of."""
        used = features if self.fuse else features[-1:]
        return torch.cat(
            [fitted(branch(level), features[-1]) for branch, level in zip(self.branches, used, strict=True)], dim=1
        )


class Residual(nn.Module):
    """A residual block of a ResNet, at half the resolution (0.5), the same (1) or twice of it (2).

    Upwards, a transposed 2x2 convolution stands where a ResNet has a strided one.

    Args:
        inner: width between the 1x1 convolutions of a bottleneck block; None makes it a basic block.
    """

    def __init__(self, inputs: int, outputs: int, inner: int | None, scale: float = 1):
        super().__init__()
        if inner is None:
            parts = [_resample(inputs, outputs, 3, scale), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
            parts += [_resample(outputs, outputs, 3)]
        else:
            parts = [_resample(inputs, inner, 1), nn.BatchNorm2d(inner), nn.ReLU(inplace=True)]
            parts += [_resample(inner, inner, 3, scale), nn.BatchNorm2d(inner), nn.ReLU(inplace=True)]
            parts += [_resample(inner, outputs, 1)]
        self.residual = nn.Sequential(*parts, nn.BatchNorm2d(outputs))
        shortcut = (_resample(inputs, outputs, 1, scale), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Identity() if inputs == outputs and scale == 1 else nn.Sequential(*shortcut)

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu_(self.residual(maps).add_(self.shortcut(maps)))


def reverse_distillation_loss(teacher: Sequence[Tensor], student: Sequence[Tensor], kind: str = "flat") -> Tensor:
    """Sum over the levels of 1 - cosine, mean over the images: a scalar, in float32 whatever the maps are in.

    Args:
        kind: `"flat"` takes all numbers of a level for one vector, as the authors' code does; `"local"` takes the mean
            over the places of the cosine over channels, as their paper says.
    """
    losses = []
    for one, other in zip(teacher, student, strict=True):
        one, other = one.float(), other.float()
        if kind == "flat":
            one, other = one.flatten(1), other.flatten(1)
        losses.append(1 - F.cosine_similarity(one, other, dim=1).mean())
    return torch.stack(losses).sum()


def distillation_map(
    teacher: Sequence[Tensor], student: Sequence[Tensor], size: tuple[int, int], combine: str = "sum"
) -> Tensor:
    """Where the student fails: 1 - cosine over channels, enlarged to `size`, combined over levels; `[B, H, W]`.

    Corners of a level lie on corners of the image (`align_corners=True`). In [0, 2n] for the sum of n levels.
    """
    maps = torch.stack(
        [
            upsample(1 - F.cosine_similarity(one.float(), other.float(), dim=1), size, align_corners=True)
            for one, other in zip(teacher, student, strict=True)
        ]
    )
    return maps.sum(0) if combine == "sum" else maps.prod(0)


def fitted(maps: Tensor, like: Tensor) -> Tensor:
    """Maps that are a pixel larger than `like` cropped, those a pixel smaller enlarged, with a warning."""
    size, wanted = tuple(maps.shape[-2:]), tuple(like.shape[-2:])
    if size == wanted:
        return maps
    what = f"feature maps of two levels do not fit: {size} where the other has {wanted}"
    remedy = "sides of an image (data.crop) that twice the largest stride divides avoid it"
    if max(abs(a - b) for a, b in zip(size, wanted, strict=True)) > 1:
        raise AnoframeError(f"{what}; {remedy}")
    warnings.warn(f"{what}, so they are cut or enlarged by one; {remedy}", stacklevel=3)
    maps = maps[..., : wanted[0], : wanted[1]]
    return maps if maps.shape[-2:] == wanted else F.interpolate(maps, wanted, mode="bilinear", align_corners=False)


def _check_strides(strides: Sequence[int]) -> None:
    if not strides:
        raise AnoframeError("reverse distillation needs at least one feature level: model.backbone.levels")
    for fine, coarse in pairwise(strides):
        ratio = coarse // fine
        if ratio * fine != coarse or ratio.bit_count() != 1:
            raise AnoframeError(
                "reverse distillation wants levels from shallow to deep, whose strides double, quadruple or stay: "
                f"model.backbone.levels gives strides {tuple(strides)}"
            )


def _checked_depths(depths: Sequence[int] | None, levels: int) -> tuple[int, ...]:
    if depths is None:
        return (3, 4, 6) if levels == 3 else (3,) * levels
    if len(depths) != levels or min(depths) < 1:
        raise AnoframeError(
            f"model.depths has one number, at least 1, for each of {levels} levels, got {tuple(depths)}"
        )
    return tuple(depths)


def _check_blocks(width: float, code_width: float, block: str, code_depth: int) -> None:
    if width <= 0 or code_width <= 0:
        raise AnoframeError(f"model.width and model.code_width are above 0, got {width} and {code_width}")
    if block not in BLOCKS:
        raise AnoframeError(f"model.block is one of {', '.join(BLOCKS)}, got {block!r}")
    if code_depth < 1:
        raise AnoframeError(f"model.code_depth is at least 1, got {code_depth}")


def _branch(inputs: int, outputs: int, ratio: int) -> nn.Module:
    """From a level to the grid and the width of the deepest: halved as often as it takes, widths in equal ratios."""
    halvings = ratio.bit_length() - 1
    if halvings == 0:
        return _conv_bn_relu(inputs, outputs, 1)
    steps = [_eighths(inputs * (outputs / inputs) ** (i / halvings)) for i in range(1, halvings)]
    widths = [inputs, *steps, outputs]
    return nn.Sequential(*(_conv_bn_relu(a, b, 3, 0.5) for a, b in pairwise(widths)))


def _stage(inputs: int, outputs: int, ratio: int, depth: int, width: float, block: str) -> nn.Sequential:
    """A level of the decoder: blocks that double as often as it takes, and others up to `depth` of them."""
    doublings = ratio.bit_length() - 1
    scales = [2] * doublings + [1] * (depth - doublings)
    inner = _inner(block, outputs, width, 16)
    return nn.Sequential(*(Residual(outputs if i else inputs, outputs, inner, s) for i, s in enumerate(scales)))


def _inner(block: str, outputs: int, width: float, least: int) -> int | None:
    return None if block == "basic" else max(least, _eighths(outputs * width))


def _eighths(width: float) -> int:
    return 8 * math.ceil(round(width / 8, 6))


def _conv_bn_relu(inputs: int, outputs: int, kernel: int, scale: float = 1) -> nn.Sequential:
    return nn.Sequential(_resample(inputs, outputs, kernel, scale), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _resample(inputs: int, outputs: int, kernel: int, scale: float = 1) -> nn.Module:
    if scale == 2:
        return nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=False)
    return nn.Conv2d(inputs, outputs, kernel, stride=2 if scale == 0.5 else 1, padding=kernel // 2, bias=False)


def _initialise(module: nn.Module) -> None:
    """As the authors' code has it: transposed convolutions keep what torch gives them, batch norms start at 1 and 0."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
