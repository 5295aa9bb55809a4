"""Student network of RD4AD: it reconstructs a teacher's feature maps from a small code of them.

    teacher maps --bottleneck: fusion, embedding--> code --decoder--> student maps, trained to equal the teacher's

Deng & Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR 2022. For the levels of
WideResNet-50-2 at strides 4, 8 and 16 this is the network of the authors' code, without a convolution that the code
declares and never uses; for other pyramids it is built by the same rules.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.rd4ad.blocks import check_blocks, initialise
from anoframe.models.rd4ad.bottleneck import build_embedding, build_fusion, fused_channels
from anoframe.models.rd4ad.decoder import build_decoder, build_heads, check_depths


class ReverseDistillation(nn.Module):
    """Bottleneck and decoder for the levels of any pyramid, shallow first.

    Args:
        channels, strides: of each teacher level; from level to level a stride is multiplied by a power of two or stays.
        signed: whether a level has negative values, for all levels or for each. The decoder ends in a ReLU, as
            published; a signed level gets a linear 1x1 convolution after it.
        width: inner width of a bottleneck block as a share of its output; 0.5 as in WideResNet-50-2, 0.25 as in
            ResNet-50.
        code_width: the same for the embedding, if it differs: 0.25 in ADer and anomalib.
        depths: residual blocks per level of the decoder, **deepest first**; None: (3, 4, 6) for three levels, else 3
            each.
        fuse: False computes the code from the deepest level alone.
        block: `"bottleneck"`, or `"basic"` as in ResNet-18 and 34, which has no `width`.
        code_depth: residual blocks of the embedding.

    Raises:
        AnoframeError: an argument is out of range; names its key in the config's `model` section.
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
        depths = check_depths(depths, len(channels))
        code_width = width if code_width is None else code_width
        check_blocks(width, code_width, block, code_depth)
        self.fuse = fuse
        self.branches = build_fusion(channels, strides, fuse)
        fused = fused_channels(channels)
        code = 2 * fused
        self.code = build_embedding(len(self.branches) * fused, code, code_width, block, code_depth)
        self.stages = build_decoder(channels, strides, code, depths, width, block)
        self.heads = build_heads(channels, signed)
        self.apply(initialise)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Reconstruct the teacher's maps, one `[B, C_l, h_l, w_l]` per level, with the same shapes.

        Raises:
            AnoframeError: the sizes of two levels differ by more than a pixel from the ratio of their strides.
        """
        maps = self.code(self.fuse_levels(features))
        student = []
        for stage, head, level in reversed([*zip(self.stages, self.heads, features, strict=True)]):
            maps = match_size(stage(maps), level)
            student.append(head(maps))
        return student[::-1]

    def fuse_levels(self, features: Sequence[Tensor]) -> Tensor:
        """Concatenate all levels at the grid of the deepest: the input of the embedding."""
        used = features if self.fuse else features[-1:]
        return torch.cat(
            [match_size(branch(level), features[-1]) for branch, level in zip(self.branches, used, strict=True)], dim=1
        )


def match_size(maps: Tensor, like: Tensor) -> Tensor:
    """Crop maps that are a pixel larger than `like` and enlarge maps that are a pixel smaller, with a warning.

    Raises:
        AnoframeError: the sizes differ by more than a pixel.
    """
    size, target = tuple(maps.shape[-2:]), tuple(like.shape[-2:])
    if size == target:
        return maps
    problem = f"feature maps of two levels do not fit: {size} where the other has {target}"
    remedy = "choose image sides (data.crop) that are multiples of twice the largest stride"
    if max(abs(a - b) for a, b in zip(size, target, strict=True)) > 1:
        raise AnoframeError(f"{problem}; {remedy}")
    warnings.warn(f"{problem}, so they are cropped or enlarged by a pixel; to avoid it, {remedy}", stacklevel=3)
    maps = maps[..., : target[0], : target[1]]
    return maps if maps.shape[-2:] == target else F.interpolate(maps, target, mode="bilinear", align_corners=False)


def _check_strides(strides: Sequence[int]) -> None:
    if not strides:
        raise AnoframeError("reverse distillation needs at least one feature level: model.backbone.levels")
    for fine, coarse in pairwise(strides):
        ratio = coarse // fine
        if ratio * fine != coarse or ratio.bit_count() != 1:
            raise AnoframeError(
                "reverse distillation needs levels from shallow to deep, whose strides double, quadruple or stay: "
                f"model.backbone.levels gives strides {tuple(strides)}"
            )
