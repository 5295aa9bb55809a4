"""RAML, Resolution-Adaptive Margin Learning: supervised image scores from a pyramid of frozen CLIP features.

Source: the public code of the project of this name (voveed/RAML_INDUSTRIAL_ANOMALY_DETECTION, 2026) and its text; there
is no paper. It learns from labelled defects of the test set, so its numbers cannot be compared with those of methods
that learn from normal images. It has no anomaly map. What is published, what the code does and what it does not do:
`docs/raml.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.errors import AnoframeError, suggest
from anoframe.models.base import Detector, Features, Observation, Phase, TrainingBatch
from anoframe.models.components.image_embedding import embed, embedding_width, has_text
from anoframe.models.raml.crops import NUM_CROPS, cut_crops, image_side
from anoframe.models.raml.loss import MACCL
from anoframe.models.raml.network import SCALE_NAMES, LinearProbe, RAMLNetwork
from anoframe.models.raml.report import summarise
from anoframe.models.raml.settings import SCALES, LossSettings, PyramidSettings, TextSettings
from anoframe.models.summary import MethodSummary
from anoframe.registry import check_arguments
from anoframe.types import Prediction, Sample

HEADS = ("raml", "linear")


class RAML(Detector):
    """Supervised classification of images on three scales of frozen features.

    Args:
        backbone: CLIP, or any encoder with feature maps of several levels, which are pooled.
        tile_size: side of a crop in pixels, the input of the encoder; a multiple of 4.
        head: `"raml"`, or `"linear"`: logistic regression on the features of the whole image, an ablation.
        pyramid: arguments of :class:`PyramidSettings`.
        text: arguments of :class:`TextSettings`. None: as published if the backbone has a text tower, else no text.
        loss: arguments of :class:`LossSettings`; the linear head has only the cross-entropy.

    Raises:
        AnoframeError: a value is out of range or an argument is unknown, text is requested of a backbone that has none,
            or `tile_size` is not the input of the backbone.
    """

    is_supervised = True
    uses_category = True  # for the prompts, and for the difficulty of categories in the loss
    accepts_new_categories = True
    scores_whole_images = True
    has_maps = False

    def __init__(
        self,
        backbone: nn.Module,
        tile_size: int = 224,
        head: str = "raml",
        pyramid: Mapping[str, Any] | None = None,
        text: Mapping[str, Any] | None = None,
        loss: Mapping[str, Any] | None = None,
    ):
        super().__init__(backbone)
        self.has_text = has_text(backbone)
        text = (
            text if text is not None else {} if self.has_text and head == "raml" else {"weight": 0.0, "fusion": False}
        )
        for name, settings, arguments in (
            ("pyramid", PyramidSettings, pyramid),
            ("text", TextSettings, text),
            ("loss", LossSettings, loss),
        ):
            check_arguments(settings, arguments or {}, f"model.{name}")
        self.tile_size, self.head = tile_size, head
        self.pyramid, self.text = PyramidSettings(**(pyramid or {})), TextSettings(**text)
        self.loss = LossSettings(**(loss or {}))
        self._check()
        width = embedding_width(backbone)
        if head == "linear":
            self.network: RAMLNetwork | LinearProbe = LinearProbe(width)
        else:
            self.network = RAMLNetwork(width, self.pyramid, self.text.fusion)
        self.maccl = MACCL(self.pyramid.hidden, self.loss) if head == "raml" and self.loss.maccl else None

    def _check(self) -> None:
        """Raise an AnoframeError for settings that do not fit the backbone or each other."""
        if self.head not in HEADS:
            raise AnoframeError(f"unknown model.head {self.head!r}: {suggest(self.head, HEADS)}")
        if self.tile_size < 4 or self.tile_size % 4:
            raise AnoframeError(f"model.tile_size must be a positive multiple of 4, got {self.tile_size}")
        side = getattr(self.backbone, "image_size", self.tile_size)
        if side != self.tile_size:
            raise AnoframeError(
                f"the backbone takes images of {side} pixels, got model.tile_size {self.tile_size}: "
                f"--model.tile_size {side} --data.crop {image_side(self.pyramid.mode, side)}"
            )
        if not self.has_text and (self.text.weight or self.text.fusion):
            raise AnoframeError(
                f"the backbone {type(self.backbone).__name__} has no text tower, got model.text.weight "
                f"{self.text.weight} and model.text.fusion {self.text.fusion}: --model.text.weight 0.0 "
                "--model.text.fusion False, or an open_clip backbone"
            )
        if self.head == "linear" and self.text.fusion:
            raise AnoframeError("model.head linear has no text fusion, got model.text.fusion True: set it to False")

    def check_image_size(self, height: int, width: int) -> None:
        """Raise an AnoframeError if images of this size do not fit the pyramid."""
        side = image_side(self.pyramid.mode, self.tile_size)
        size = height if height == width else f"{height} x {width}"
        if size != side:
            raise AnoframeError(
                f"raml with model.pyramid.mode {self.pyramid.mode!r} and model.tile_size {self.tile_size} needs images "
                f"of {side} pixels, got data.crop {size}: --data.resize {side} --data.crop {side}"
            )

    # ------------------------------------------------------------------------------------------------ features

    def extract_features(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the features of all three scales, whichever are in use: ablations share one cache entry.

        Returns:
            `scale1` `[B, D]`, `scale2` `[B, 4, D]`, `scale3` `[B, 16, D]`, not normalised.
        """
        mean, std = (getattr(self.backbone, name, None) for name in ("mean", "std"))
        crops = cut_crops(images, self.pyramid.mode, self.tile_size, mean, std)
        vectors = embed(self.backbone, crops.flatten(0, 1)).unflatten(0, (-1, NUM_CROPS))
        whole, *others = vectors.split(SCALES, 1)
        return dict(zip(SCALE_NAMES.values(), [whole[:, 0], *others], strict=True))

    def encoding(self) -> dict[str, Any] | None:
        describe = getattr(self.backbone, "encoding", None)
        if describe is None:
            return None
        return {"version": 1, "pyramid": self.pyramid.mode, "tile_size": self.tile_size, "backbone": describe()}

    def add_category(self, features: Mapping[str, Tensor], categories: Sequence[str]) -> Features:
        """Add `text` `[B, 2, D]`, unit rows of a normal and of a defective part, if the backbone has a text tower."""
        if not self.has_text:
            return features
        encode: Any = self.backbone.encode_text
        rows = {category: encode(self.text.prompts(category)) for category in dict.fromkeys(categories)}
        text = torch.stack([rows[category] for category in categories])
        return {**features, "text": text.to(features["scale1"].device)}

    # ------------------------------------------------------------------------------------------------ training

    def training_stages(self) -> Sequence[Observation | Phase]:
        parameters = dict(self.network.named_parameters(prefix="network"))
        couples_batch = self.maccl is not None
        phase = Phase("classifier", parameters, self._losses, couples_batch=couples_batch)
        if isinstance(self.network, LinearProbe):
            observe = Observation("statistics", self._begin_statistics, self._add_statistics, self._end_statistics)
            return [observe, phase]
        return [phase]

    def _losses(self, batch: TrainingBatch) -> Mapping[str, Tensor]:
        categories = [sample.category for sample in batch.samples]
        z, logits = self.network(self.add_category(batch.features, categories))
        is_defect = torch.tensor([sample.is_defect for sample in batch.samples], device=logits.device)
        losses = self.maccl(z, is_defect, categories) if self.maccl is not None else {}
        return {**losses, "bce": F.binary_cross_entropy_with_logits(logits.float(), is_defect.float())}

    def _begin_statistics(self, images: int) -> None:
        self._observed: list[Tensor] = []

    def _add_statistics(self, features: Features, samples: Sequence[Sample]) -> None:
        self._observed.append(features["scale1"].double())

    def _end_statistics(self) -> None:
        assert isinstance(self.network, LinearProbe)
        vectors = torch.cat(self._observed)
        self._observed = []
        self.network.set_statistics(vectors.mean(0), vectors.std(0, correction=0))

    # ------------------------------------------------------------------------------------------------ detection

    def compute_prediction(self, features: Features, size: tuple[int, int]) -> Prediction:
        visual = self.network(features)[1].float().sigmoid()
        if "text" not in features:
            return Prediction(visual, None, extra_scores={"visual": visual})
        text = text_score(features["scale1"], features["text"])
        score = (1 - self.text.weight) * visual + self.text.weight * text
        return Prediction(score, None, extra_scores={"visual": visual, "text": text})

    # ------------------------------------------------------------------------------------------------ reporting

    def notes(self) -> Sequence[str]:
        notes = []
        if not self.has_text:
            notes.append("RAML without text: an image encoder in place of CLIP, so not the published method")
        if self.head == "linear":
            notes.append("linear probe: logistic regression on the features of the whole image, not RAML")
        elif self.pyramid.mode == "reference":
            notes.append(
                "pyramid mode reference: the 4 and 16 crops are no tiles of the image; they reinterpret its memory, "
                "which mixes colours and positions, as the public code does"
            )
        elif self.pyramid.mode == "tiles224":
            notes.append("pyramid mode tiles224: tiles are cut from the reduced image and show no more detail than it")
        return notes

    def summary(self) -> MethodSummary:
        return summarise(self.network, self.maccl)


def text_score(image: Tensor, text: Tensor) -> Tensor:
    """`(cos(image, defect) - cos(image, normal) + 1) / 2`, `[B]` in [-0.5, 1.5], and near 0.5 for CLIP.

    Args:
        image: `[B, D]` embeddings of the whole images.
        text: `[B, 2, D]` unit rows, normal and defect.
    """
    cosines = (F.normalize(image, dim=-1)[:, None] * text).sum(-1)
    return (cosines[:, 1] - cosines[:, 0] + 1) / 2
