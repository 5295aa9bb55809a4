"""UniAD: a transformer that reconstructs the backbone's features of all categories without copying them.

You et al., "A Unified Model for Multi-class Anomaly Detection", NeurIPS 2022. The features of all levels, aligned on
one grid, are `f`. An encoder and a decoder reconstruct them as `f_hat` from tokens with noise (in training); the
anomaly map is the norm of `f_hat - f` at each position. Three things keep the network from copying its input: attention
that does not see the neighbourhood, a decoder that starts from learned queries in every layer, and the noise. The model
gets no category labels.

The optional memory between encoder and decoder is a proposal of this project and not part of the paper. Differences
between the paper, the code and other implementations: `docs/uniad.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.base import Detector, Features, Observation, Phase, TrainingBatch
from anoframe.models.components.anomaly_map import upsample
from anoframe.models.uniad.feature_alignment import FeatureJitter, align_levels
from anoframe.models.uniad.memory import MemoryModule, MemorySettings, mean_entropy
from anoframe.models.uniad.reconstruction import Reconstruction
from anoframe.models.uniad.transformer import MaskedTransformer
from anoframe.registry import check_arguments
from anoframe.types import Prediction

POOL_SIDE = 16  # pixels; the image score is the maximum of averages of the map over squares of this side


def pooled_max(maps: Tensor) -> Tensor:
    """Maximum of all averages over 16 x 16 pixels of maps `[B, H, W]`: `[B]`; rows are pooled first, then columns."""
    rows = F.avg_pool2d(maps[:, None], (POOL_SIDE, 1), stride=1)
    return F.avg_pool2d(rows, (1, POOL_SIDE), stride=1).flatten(1).amax(1)


IMAGE_SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "max": pooled_max,
    "mean": lambda maps: maps.flatten(1).mean(1),
    "std": lambda maps: maps.flatten(1).std(1, correction=0),
}


class UniAD(Detector):
    """Reconstruction of features by a masked transformer.

    Args:
        backbone: gives feature maps `[B, C_l, h_l, w_l]` of several levels; has an attribute `channels`.
        image_size: side of the images, or height and width. It is fixed, because each position has a learned code and
            learned queries.
        stride: side of a token in pixels; image sides are multiples of it.
        width, heads, hidden, encoder_layers, decoder_layers, dropout, window, position: see :class:`MaskedTransformer`.
        mask_encoder: mask the neighbourhood in the encoder.
        mask_first: mask it in the decoder's first attention, to the encoder output.
        mask_second: mask it in the decoder's second attention, to the previous layer.
        jitter: arguments of :class:`FeatureJitter`.
        memory: arguments of :class:`MemorySettings`.
        image_score: `"max"` of the map's averages over 16 x 16 pixels, or the `"mean"` or `"std"` of the map.

    Raises:
        AnoframeError: a value is out of range or an argument of `jitter` or `memory` is unknown; names its config key.
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
        check_arguments(MemorySettings, memory or {}, "model.memory")
        if image_score not in IMAGE_SCORES:
            raise AnoframeError(f"model.image_score must be one of {', '.join(IMAGE_SCORES)}, got {image_score!r}")
        self.image_score = image_score
        self.image_size = _height_and_width(image_size, stride)
        self.grid = (self.image_size[0] // stride, self.image_size[1] // stride)
        self.memory = settings = MemorySettings(**(memory or {}))
        is_prototype = settings.kind == "prototype"
        transformer = MaskedTransformer(
            self.grid,
            width=width,
            heads=heads,
            hidden=hidden,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            dropout=dropout,
            window=window,
            masks=(False,) * 3 if is_prototype else (mask_encoder, mask_first, mask_second),
            position=position,
            queries=not is_prototype,
        )
        self.reconstruction = Reconstruction(
            _total_channels(backbone),
            FeatureJitter(**(jitter or {})),
            transformer,
            None if settings.kind == "none" else MemoryModule(width, settings.slots, settings.topk, settings.shrink),
        )

    # ------------------------------------------------------------------------------------------------ features

    def extract_features(self, images: Tensor) -> Tensor:
        """`f`, `[B, C, h, w]`: all levels on the grid of the tokens.

        Raises:
            AnoframeError: the images do not have the size that the model was built for.
        """
        size = tuple(images.shape[-2:])
        if size != self.image_size:
            expected, got = (" x ".join(map(str, sides)) for sides in (self.image_size, size))
            raise AnoframeError(
                f"uniad was built for images of {expected} pixels (model.image_size, which follows data.crop), got "
                f"{got}: crop the images to that size, or train a model for their size"
            )
        return align_levels(self.backbone(images), self.grid)

    def check_image_size(self, height: int, width: int) -> None:
        if (height, width) != self.image_size:
            sides = ",".join(map(str, dict.fromkeys((height, width))))
            raise AnoframeError(
                f"uniad is built for images of {' x '.join(map(str, self.image_size))} pixels (model.image_size), and "
                f"data.crop or data.tile gives {height} x {width}: --model.image_size {sides}"
            )

    def encoding(self) -> dict[str, Any] | None:
        describe = getattr(self.backbone, "encoding", None)
        return {"version": 1, "grid": list(self.grid), "backbone": describe()} if describe else None

    # ------------------------------------------------------------------------------------------------ training

    def training_stages(self) -> Sequence[Observation | Phase]:
        parameters = dict(self.reconstruction.named_parameters(prefix="reconstruction"))
        return [Phase("reconstruction", parameters, self.losses)]

    def losses(self, batch: TrainingBatch, context: Any = None) -> dict[str, Tensor]:
        """Mean squared error between the reconstruction of the noised features and the clean features.

        Args:
            batch: clean features.
            context: passed to the adapters of the transformer.
        """
        reconstructed, weights = self.reconstruction(batch.features, context=context)
        losses = {"mse": F.mse_loss(self._comparable(reconstructed), self._comparable(batch.features))}
        if self.memory.entropy and weights is not None:
            losses["entropy"] = self.memory.entropy * mean_entropy(weights)
        return losses

    def reconstruct(self, features: Tensor, context: Any = None) -> Tensor:
        """Reconstruct `f` as `f_hat`, `[B, C, h, w]` each; in train mode from noised features."""
        reconstructed: Tensor = self.reconstruction(features, context=context)[0]
        return reconstructed

    def _comparable(self, features: Tensor) -> Tensor:
        """Features as the loss and the map compare them: in float32; after a sigmoid for the prototype's memory."""
        return features.float().sigmoid() if self.memory.kind == "prototype" else features.float()

    # ------------------------------------------------------------------------------------------------ detection

    def compute_prediction(self, features: Features, size: tuple[int, int]) -> Prediction:
        maps = upsample(self.reconstruction_error(features), size, align_corners=True)
        return Prediction(IMAGE_SCORES[self.image_score](maps), maps)

    def reconstruction_error(self, features: Tensor) -> Tensor:
        """Distance between features and their reconstruction at each position, `[B, h, w]`."""
        return self.distance(features, self.reconstruct(features))

    def distance(self, features: Tensor, reconstructed: Tensor) -> Tensor:
        """Norm of `f_hat - f` at each position, `[B, h, w]`."""
        return (self._comparable(reconstructed) - self._comparable(features)).square().sum(1).sqrt()


def _total_channels(backbone: nn.Module) -> int:
    channels: Sequence[int] | None = getattr(backbone, "channels", None)
    if channels is None:
        kind = type(backbone).__name__
        raise AnoframeError(
            f"uniad needs a backbone with an attribute `channels`, one number per level; {kind} has none"
        )
    return sum(channels)


def _height_and_width(image_size: int | Sequence[int], stride: int) -> tuple[int, int]:
    """Height and width of the images, checked against the stride."""
    sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if stride < 1:
        raise AnoframeError(f"model.stride must be at least 1, got {stride}")
    if len(sides) != 2 or any(side < POOL_SIDE or side % stride for side in sides):
        raise AnoframeError(
            f"uniad needs images (data.crop, or model.image_size) with sides of at least {POOL_SIDE} pixels that are "
            f"multiples of model.stride = {stride}, got {image_size}"
        )
    return sides[0], sides[1]
