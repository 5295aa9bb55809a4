"""UniAD: a transformer that rebuilds the backbone's features of all categories, and cannot do so by copying them.

You et al., "A Unified Model for Multi-class Anomaly Detection", NeurIPS 2022. All levels of the backbone on one grid
are `f`; its tokens, noised while it learns, go through encoder and decoder and come back as `f_hat`; the map is the
length of `f_hat - f` at each place. What keeps it from copying its input: attention that does not see the
neighbourhood, a decoder that starts from learned queries in every layer, and the noise. It is never told categories.

Between encoder and decoder there may be a memory, which is this project's and not the paper's. Where paper, code and
other implementations differ: `docs/uniad.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.base import Detector, Features, Observation, Phase, TrainingBatch
from anoframe.models.components.anomaly_map import upsample
from anoframe.models.uniad.feature_alignment import FeatureJitter, aligned
from anoframe.models.uniad.memory import MemoryModule, entropy
from anoframe.models.uniad.transformer import MaskedTransformer, initialise
from anoframe.registry import check_arguments
from anoframe.types import Prediction
from anoframe.utils.parallel import map_images

MEMORIES = ("none", "series", "prototype")
POOL = 16  # pixels of both sides over which the map is averaged before its largest value is the image's score


@dataclass(frozen=True)
class Memory:
    """The memory between encoder and decoder.

    Args:
        kind: `"none"` is UniAD as published. `"series"`: the decoder gets what the memory gives instead of what the
            encoder gives. `"prototype"`: a public prototype for comparison, a plain decoder that goes on from what the
            memory gives and attends to the encoder's output past it, unmasked, with features through a sigmoid.
        slots, topk, shrink: see :class:`MemoryModule`.
        entropy: weight of the mean entropy of the memory's weights in the loss.
    """

    kind: str = "none"
    slots: int = 256
    topk: int | None = None
    shrink: float = 0.0
    entropy: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in MEMORIES:
            raise AnoframeError(f"model.memory.kind is one of {', '.join(MEMORIES)}, got {self.kind!r}")
        if self.entropy < 0:
            raise AnoframeError(f"model.memory.entropy is 0 or more, got {self.entropy}")


class UniAD(Detector):
    """Reconstruction of features by a masked transformer.

    Args:
        backbone: feature maps `[B, C_l, h_l, w_l]` of several levels; it says its `channels`.
        image_size: side of the images, or height and width; it cannot be changed later, because every place has a
            learned code and queries of its own.
        stride: pixels of a token's side; image sides are multiples of it.
        width, heads, hidden, encoder_layers, decoder_layers, dropout, window, position: see :class:`MaskedTransformer`.
        mask_encoder, mask_first, mask_second: whether that attention does not see the neighbourhood; the decoder's
            first is the one to the memory, its second the one to the layer before.
        jitter: arguments of :class:`FeatureJitter`.
        memory: arguments of :class:`Memory`.
        image_score: `"max"` of the map's averages over 16 x 16 pixels, or the `"mean"` or `"std"` of the map.
    """

    def __init__(
        self,
        backbone: nn.Module,
        image_size: int | Sequence[int] = 224,
        stride: int = 16,
        width: int = 256,
        heads: int = 8,
        hidden: int = 1024,
        encoder_layers: int = 4,
        decoder_layers: int = 4,
        dropout: float = 0.1,
        window: int = 7,
        mask_encoder: bool = True,
        mask_first: bool = True,
        mask_second: bool = True,
        position: str = "learned",
        jitter: Mapping[str, Any] | None = None,
        memory: Mapping[str, Any] | None = None,
        image_score: str = "max",
    ):
        super().__init__(backbone)
        check_arguments(FeatureJitter, jitter or {}, "model.jitter")
        check_arguments(Memory, memory or {}, "model.memory")
        if image_score not in IMAGE_SCORES:
            raise AnoframeError(f"model.image_score is one of {', '.join(IMAGE_SCORES)}, got {image_score!r}")
        self.image_score = image_score
        self.image_size = _sides(image_size, stride)
        self.grid = (self.image_size[0] // stride, self.image_size[1] // stride)
        self.memory = settings = Memory(**(memory or {}))
        prototype = settings.kind == "prototype"
        transformer = MaskedTransformer(
            self.grid,
            width=width,
            heads=heads,
            hidden=hidden,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            dropout=dropout,
            window=window,
            masks=(False,) * 3 if prototype else (mask_encoder, mask_first, mask_second),
            position=position,
            queries=not prototype,
        )
        self.reconstruction = Reconstruction(
            _channels(backbone),
            FeatureJitter(**(jitter or {})),
            transformer,
            None if settings.kind == "none" else MemoryModule(width, settings.slots, settings.topk, settings.shrink),
        )

    # ------------------------------------------------------------------------------------------------ features

    def encode(self, images: Tensor) -> Tensor:
        """`f`, `[B, C, h, w]`: the levels on the grid of the tokens.

        Raises:
            AnoframeError: images of another size than it was built for.
        """
        size = tuple(images.shape[-2:])
        if size != self.image_size:
            built, got = (" x ".join(map(str, one)) for one in (self.image_size, size))
            raise AnoframeError(
                f"uniad was built for images of {built} pixels (model.image_size, which follows data.crop) and got "
                f"{got}: crop them to that size, or train one for them"
            )
        if images.device.type != "cpu":
            return self._aligned(images)
        return torch.cat(map_images(self._aligned, images))

    def _aligned(self, images: Tensor) -> Tensor:
        return aligned(self.backbone(images), self.grid)

    def encoding(self) -> dict[str, Any] | None:
        describe = getattr(self.backbone, "encoding", None)
        return {"version": 1, "grid": list(self.grid), "backbone": describe()} if describe else None

    # ------------------------------------------------------------------------------------------------ learning

    def training_stages(self) -> Sequence[Observation | Phase]:
        named = self.reconstruction.named_parameters(prefix="reconstruction")
        return [Phase("reconstruction", dict(named), self.losses)]

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Mean square of what is missed of the features as they are, whatever noise was on what it saw."""
        found, weights = self.reconstruction(batch.features)
        losses = {"mse": F.mse_loss(self._compared(found), self._compared(batch.features))}
        if self.memory.entropy and weights is not None:
            losses["entropy"] = self.memory.entropy * entropy(weights)
        return losses

    def reconstruct(self, features: Tensor) -> Tensor:
        """`f` to `f_hat`, `[B, C, h, w]` each; in train mode from a noised `f`."""
        found: Tensor = self.reconstruction(features)[0]
        return found

    def _compared(self, features: Tensor) -> Tensor:
        """Features as loss and map see them: in float32."""
        return features.float().sigmoid() if self.memory.kind == "prototype" else features.float()

    # ------------------------------------------------------------------------------------------------ detecting

    @torch.no_grad()
    def detect(self, features: Features, size: tuple[int, int]) -> Prediction:
        mode = self.training
        self.eval()
        try:
            distances = self._distances(features)
        finally:
            self.train(mode)
        if features.device.type != "cpu":
            return self._judged(distances, size)
        each = map_images(lambda one: self._judged(one, size), distances)
        scores, maps = ([getattr(one, name) for one in each] for name in ("score", "anomaly_map"))
        return Prediction(torch.cat(scores), torch.cat(maps))

    def _distances(self, features: Tensor) -> Tensor:
        """Length of `f_hat - f` at each place, `[B, h, w]`; on a CPU of each image by itself, several at once."""

        def missed(one: Tensor) -> Tensor:
            return self.distance(one, self.reconstruction(one)[0])

        return missed(features) if features.device.type != "cpu" else torch.cat(map_images(missed, features))

    def _judged(self, distances: Tensor, size: tuple[int, int]) -> Prediction:
        maps = upsample(distances, size, align_corners=True)
        return Prediction(IMAGE_SCORES[self.image_score](maps), maps)

    def distance(self, features: Tensor, found: Tensor) -> Tensor:
        """Length of `f_hat - f` at each place, `[B, h, w]`."""
        return (self._compared(found) - self._compared(features)).square().sum(1).sqrt()


class Reconstruction(nn.Module):
    """Features to tokens, through encoder, memory and decoder, and back.

    Args:
        channels: `C`, of all levels together.
        jitter: noise on tokens, in train mode.
        transformer: its queries, where it has any, make the memory's output what its decoder attends to; without any,
            its decoder goes on from the memory's output and attends to the encoder's, and tokens are normalised first.
        memory: None for none.
    """

    def __init__(
        self, channels: int, jitter: FeatureJitter, transformer: MaskedTransformer, memory: MemoryModule | None
    ):
        super().__init__()
        self.jitter, self.transformer, self.memory = jitter, transformer, memory
        width = transformer.norm.normalized_shape[0]
        self.inward, self.outward = nn.Linear(channels, width), nn.Linear(width, channels)
        for layer in (self.inward, self.outward):
            initialise(layer)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """`[B, C, h, w]` to the same, and the weights of the memory's slots `[B, h * w, slots]`, None without one."""
        tokens = self.inward(self.jitter(features.flatten(2).transpose(1, 2).contiguous()))
        position = self.transformer.position()
        if self.memory is None:
            memory, start, weights = self.transformer.encode(tokens, position), None, None
        elif self.transformer.queries:
            memory, weights = self.memory(self.transformer.encode(tokens, position))
            start = None
        else:
            memory = self.transformer.encode(F.layer_norm(tokens, tokens.shape[2:]), position)
            start, weights = self.memory(memory)
        found = self.outward(self.transformer.decode(memory, position, start))
        return found.transpose(1, 2).unflatten(2, features.shape[2:]), weights


def pooled_max(maps: Tensor) -> Tensor:
    """Largest of all averages over 16 x 16 pixels of maps `[B, H, W]`: `[B]`; rows first, then columns."""
    rows = F.avg_pool2d(maps[:, None], (POOL, 1), stride=1)
    return F.avg_pool2d(rows, (1, POOL), stride=1).flatten(1).amax(1)


IMAGE_SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "max": pooled_max,
    "mean": lambda maps: maps.flatten(1).mean(1),
    "std": lambda maps: maps.flatten(1).std(1, correction=0),
}


def _channels(backbone: nn.Module) -> int:
    known: Sequence[int] | None = getattr(backbone, "channels", None)
    if known is None:
        raise AnoframeError("uniad rebuilds the features of a backbone whose channels it knows, and this one says none")
    return sum(known)


def _sides(image_size: int | Sequence[int], stride: int) -> tuple[int, int]:
    """Height and width, checked."""
    given = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if stride < 1:
        raise AnoframeError(f"model.stride is at least 1, got {stride}")
    if len(given) != 2 or any(side < POOL or side % stride for side in given):
        raise AnoframeError(
            f"uniad wants images (data.crop, or model.image_size) whose sides are at least {POOL} pixels and multiples "
            f"of model.stride {stride}, got {image_size}"
        )
    return given[0], given[1]
