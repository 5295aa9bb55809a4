"""WinCLIP: anomaly scores from CLIP's similarity to texts about normal and defective objects, and to few references.

Jeong et al., "WinCLIP: Zero-/Few-Shot Anomaly Classification and Segmentation", CVPR 2023. The official code is not
public; where the paper leaves something open, `docs/winclip.md` states what was chosen and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.base import Detector, Features, Forecast, Observation, Phase
from anoframe.models.components.anomaly_map import gaussian_blur, upsample
from anoframe.models.components.prompts import TextPrototypes, read_prompts
from anoframe.models.components.text_scores import (
    anomaly_probability,
    check_image_side,
    check_patch_grid,
    check_tau,
    check_text_tower,
)
from anoframe.models.summary import MethodSummary
from anoframe.models.winclip.association import Association
from anoframe.models.winclip.windows import harmonic_map, harmonic_mean_of_scales, window_table
from anoframe.types import Prediction, Sample
from anoframe.utils.memory import gigabytes


class WinCLIP(Detector):
    """Zero-shot detector, or few-shot detector with reference images (WinCLIP+).

    Features of an image are unit vectors: `image [B, D]`, `windows2 [B, W, D]` and so on for each scale, and
    `patches [B, N, width]` before the projection. They depend neither on prompts nor on references, so all settings
    below except `scales` share them.

    Args:
        backbone: CLIP model with a text tower (`open_clip:NAME`).
        prompts: path of a prompts file; None is the published set of 22 templates, 7 normal and 4 defect states.
        full_stop: end each prompt with a full stop.
        prototypes: how embeddings of prompts are averaged, `"raw"` or `"normalised"`; see `TextPrototypes`.
        tau: temperature of the softmax. The ranking of zero-shot image scores does not depend on it.
        scales: sides of the windows in patches.
        sigma: standard deviation of a Gaussian on the map, in pixels; 0 for none, as published.
        use_references: learn from the training images as normal references of one category. Their number is that of
            the training images: `data.shots` with `data.split few_shot`.
    """

    uses_category = True
    scores_whole_images = True
    needs_text = True  # of the backbone

    def __init__(
        self,
        backbone: nn.Module,
        prompts: str | None = None,
        full_stop: bool = True,
        prototypes: str = "raw",
        tau: float = 0.07,
        scales: Sequence[int] = (2, 3),
        sigma: float = 0.0,
        use_references: bool = False,
    ):
        super().__init__(backbone)
        check_text_tower(backbone, "winclip")
        check_tau(tau)
        self.grid = check_patch_grid(backbone)
        self.scales = _checked_scales(scales, self.grid)
        self.tau, self.sigma, self.use_references = tau, sigma, use_references
        self.accepts_new_categories = not use_references
        self.prompts = read_prompts(prompts, full_stop)
        self._prototypes = TextPrototypes(self.clip, self.prompts, prototypes)
        self.register_buffer("prompts_sha256", self.prompts.digest())
        for name in self._memory_names() if use_references else ():
            self.register_buffer(f"reference_{name}", torch.empty(0, 0))
        self._associations: dict[str, Association] = {}
        self._observed: dict[str, list[Tensor]] = {}
        self._categories: set[str] = set()

    # ------------------------------------------------------------------------------------------------ encoding

    @property
    def clip(self) -> Any:
        """The backbone, with the methods of a CLIP model."""
        return self.backbone

    def extract_features(self, images: Tensor) -> dict[str, Tensor]:
        tokens = self.clip.image_tokens(images)
        features = {"image": tokens.embedding, "patches": tokens.patches}
        for scale in self.scales:
            table = window_table(self.grid, scale).to(images.device)
            features[f"windows{scale}"] = self.clip.encode_windows(tokens.sequence, table)
        return {name: F.normalize(value.float(), dim=-1) for name, value in features.items()}

    def encoding(self) -> dict[str, Any] | None:
        return {"version": 1, "scales": list(self.scales), "backbone": self.clip.encoding()}

    def check_image_size(self, height: int, width: int) -> None:
        check_image_side(self.clip, height, width)

    def add_category(self, features: Features, categories: Sequence[str]) -> Features:
        """Add `text [B, 2, D]`, the normal and the defective prototype of each image's category."""
        return {**features, "text": self._prototypes.of(categories).to(features["image"].device)}

    # ------------------------------------------------------------------------------------------------ references

    def training_stages(self) -> Sequence[Observation | Phase]:
        if not self.use_references:
            return ()
        return [Observation("references", self._begin, self._observe, self._finish, self._forecast)]

    def _memory_names(self) -> list[str]:
        return ["patches", *(f"windows{scale}" for scale in self.scales)]

    def _begin(self, images: int) -> None:
        self._observed, self._categories = {name: [] for name in self._memory_names()}, set()

    def _forecast(self, features: Features, images: int) -> Forecast:
        size = images * sum(4 * features[name][0].numel() for name in self._memory_names())
        return Forecast(
            f"memory of {images} reference image{'s' * (images > 1)}, {gigabytes(size)}",
            4 * size,  # observed, joined, and shifted to its mean for the search
            "Use fewer references: --data.split few_shot --data.shots 4",
        )

    def _observe(self, features: Features, samples: Sequence[Sample]) -> None:
        self._categories |= {sample.category for sample in samples}
        if len(self._categories) > 1:
            raise AnoframeError(
                f"references of {len(self._categories)} categories ({', '.join(sorted(self._categories))}) in one "
                "WinCLIP detector: an image would be compared with all of them; use --protocol separate"
            )
        for name, parts in self._observed.items():
            parts.append(features[name])

    def _finish(self) -> None:
        for name, parts in self._observed.items():
            setattr(self, f"reference_{name}", torch.cat(parts).flatten(0, 1))
        self._observed = {}

    def _memory(self, name: str) -> Tensor:
        memory: Tensor = getattr(self, f"reference_{name}")
        return memory

    @property
    def num_references(self) -> int:
        """Number of reference images in the memory."""
        return len(self._memory("patches")) // (self.grid[0] * self.grid[1]) if self.use_references else 0

    def prepare_detection(self) -> None:
        if not self.use_references:
            return
        if not self.num_references:
            raise AnoframeError("this WinCLIP has no references yet: train it, or load a checkpoint")
        for name in self._memory_names():
            if name not in self._associations or self._associations[name].memory is not self._memory(name):
                self._associations[name] = Association(self._memory(name))

    # ------------------------------------------------------------------------------------------------ detecting

    def compute_prediction(self, features: Features, size: tuple[int, int]) -> Prediction:
        text_score = anomaly_probability(features["image"], features["text"], self.tau)  # [B]
        score, coarse = text_score, self._text_map(features, text_score)  # [B, h, w]
        extra_scores = {}
        if self.use_references:
            distance = self._reference_map(features)
            reference_score = distance.flatten(1).amax(1)
            score, coarse = (text_score + reference_score) / 2, (coarse + distance) / 2
            extra_scores = {"text": text_score, "references": reference_score}
        return Prediction(score, gaussian_blur(upsample(coarse, size), self.sigma), extra_scores=extra_scores)

    def _text_map(self, features: Features, image_score: Tensor) -> Tensor:
        """Compute the zero-shot map `[B, h, w]`, the harmonic mean over the image and all scales of windows."""
        maps = []
        for scale in self.scales:
            windows = anomaly_probability(features[f"windows{scale}"], features["text"], self.tau)
            maps.append(harmonic_map(windows, self.grid, scale))
        return harmonic_mean_of_scales(image_score, maps)

    def _reference_map(self, features: Features) -> Tensor:
        """Compute the distance to the references `[B, h, w]`, the arithmetic mean over patches and scales."""
        distances = {name: self._associations[name].scores(features[name]) for name in self._memory_names()}
        maps = [distances["patches"].unflatten(1, self.grid)]
        maps += [harmonic_map(distances[f"windows{scale}"], self.grid, scale) for scale in self.scales]
        return torch.stack(maps).mean(0)

    # ------------------------------------------------------------------------------------------------ reporting

    def notes(self) -> Sequence[str]:
        return self.prompts.remarks()

    def summary(self) -> MethodSummary:
        return MethodSummary({"references/images": self.num_references} if self.num_references else {})

    def load_learned_state(self, state: dict[str, Tensor]) -> None:
        self.prompts.check_digest(state.get("prompts_sha256"))
        super().load_learned_state(state)


def _checked_scales(scales: Sequence[int], grid: tuple[int, int]) -> tuple[int, ...]:
    valid = all(isinstance(scale, int) and 1 <= scale <= min(grid) for scale in scales)
    if not scales or not valid or len(set(scales)) < len(scales):
        raise AnoframeError(
            f"model.scales lists each window side once, from 1 to {min(grid)} patches of a grid of "
            f"{grid[0]} x {grid[1]}, for example (2, 3); got {tuple(scales)}"
        )
    return tuple(scales)
