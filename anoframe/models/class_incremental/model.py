"""A class-incremental classifier as an anomaly detector for a stream of tasks. Image scores only, no anomaly map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from anoframe.errors import AnoframeError, suggest
from anoframe.models.base import ContinualDetector, Features, Observation, Phase, TaskData
from anoframe.models.class_incremental.base import category_class, state_class
from anoframe.models.class_incremental.factory import build_classifier
from anoframe.models.class_incremental.scores import StateTable, energy, least_confidence, sample_variance
from anoframe.models.components.image_embedding import embed, embedding_width, has_text
from anoframe.models.components.text_scores import check_image_side
from anoframe.models.summary import MethodSummary
from anoframe.types import Prediction, Sample

CLASS_SPACES = {"category": category_class, "state": state_class}
DEFECTS = ("synthetic", "real")


class ClassIncremental(ContinualDetector):
    """Detector whose scores are those of a classifier of categories, or of normal and defective states.

    Args:
        backbone: CLIP, or any encoder with feature maps, which are pooled to one vector per image.
        classifier: section for :func:`build_classifier`; None: CLAP4CLIP with its defaults.
        text: section for :class:`TextSettings`.
        classes: `"state"`: two classes per category, normal and defective; `"category"`: one class per category.
        defects: of the class space `state`: `"synthetic"` ones, made from normal training images, or `"real"` ones,
            which make the method supervised.
        seed: of the classifier.

    Raises:
        AnoframeError: a value is out of range, or the backbone does not fit.
    """

    category_is_optional = True
    scores_whole_images = True
    learns_classes = True
    has_memory = True
    has_maps = False

    def __init__(
        self,
        backbone: nn.Module,
        classifier: Mapping[str, Any] | None = None,
        text: Mapping[str, Any] | None = None,
        classes: str = "state",
        defects: str = "synthetic",
        seed: int = 0,
    ):
        super().__init__(backbone)
        for key, value, allowed in (("classes", classes, tuple(CLASS_SPACES)), ("defects", defects, DEFECTS)):
            if value not in allowed:
                raise AnoframeError(f"unknown model.{key} {value!r}: {suggest(value, allowed)}")
        self.has_states = self.uses_category = classes == "state"
        self.is_supervised = self.has_states and defects == "real"
        self.wants_synthetic_defects = self.has_states and defects == "synthetic"
        section = {"name": "clap4clip", **(classifier or {}), "text": text}
        width = embedding_width(backbone)
        self.learner = build_classifier(section, width, backbone, seed, CLASS_SPACES[classes])
        self._data: TaskData | None = None
        self._states: tuple[tuple[str, ...], StateTable] | None = None

    # ------------------------------------------------------------------------------------------------ features

    def extract_features(self, images: Tensor) -> Tensor:
        """Compute one vector per image, `[B, D]`, not normalised."""
        return embed(self.backbone, images)

    def encoding(self) -> dict[str, Any] | None:
        describe = getattr(self.backbone, "encoding", None)
        return {"version": 1, "pooled": not has_text(self.backbone), "backbone": describe()} if describe else None

    def check_image_size(self, height: int, width: int) -> None:
        if has_text(self.backbone):
            check_image_side(self.backbone, height, width)

    def add_category(self, features: Features, categories: Sequence[str]) -> Features:
        """Return `image` `[B, D]` and `category` `[B]`, the number of a learned category, or -1."""
        known = {name: number for number, name in enumerate(self._state_table().categories)}
        numbers = torch.tensor([known.get(name, -1) for name in categories], device=features.device)
        return {"image": features, "category": numbers}

    # ------------------------------------------------------------------------------------------------ tasks

    def prepare_task(self, data: TaskData) -> None:
        self._data = data

    def start_task(self, task: int, images: int) -> None:
        if self._data is None:
            raise AnoframeError("a class-incremental classifier needs the classes of a task: --protocol continual")
        self.learner.start_task(task, self._data)
        if self.has_states:
            StateTable(self.learner.classes)  # raises an error for a category with one state

    def finish_task(self) -> None:
        self.learner.finish_task()

    def exemplar_rows(self) -> Sequence[int]:
        rows: list[int] = self.learner.exemplar_rows.tolist()
        return rows

    def exemplar_class(self, sample: Sample) -> str:
        return self.learner.class_of(sample)

    def phase_names(self) -> Sequence[str]:
        return self.learner.phase_names()

    def training_stages(self) -> Sequence[Observation | Phase]:
        if self._data is not None and not self.learner.classes:  # without a stream: all images are one task
            self.start_task(0, len(self._data.samples))
        return self.learner.training_stages()

    def load_learned_state(self, state: dict[str, Tensor]) -> None:
        prefix = "learner."
        if wrong := [name for name in state if not name.startswith(prefix)]:
            raise AnoframeError(f"the checkpoint is of another method: it has {wrong[0]}; train again")
        self.learner.load_learned_state({name.removeprefix(prefix): value for name, value in state.items()})

    # ------------------------------------------------------------------------------------------------ detection

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of all classes learned so far: the axis C of `class_logits`."""
        return self.learner.classes

    def sample_logits(self, features: Tensor) -> Tensor:
        """Compute the logits `[S, B, C]` of features `[B, D]`; each image by itself."""
        return self.learner.logits(features)

    def class_logits(self, features: Tensor) -> Tensor:
        """Compute the mean logits over the samples, `[B, C]`, of features `[B, D]`; each image by itself."""
        return self.learner.logits(features).mean(0)

    def compute_prediction(self, features: Features, size: tuple[int, int]) -> Prediction:
        images: Tensor = features["image"] if self.has_states else features
        logits = self.learner.logits(images)  # [S, B, C]
        mean = logits.mean(0)
        if not mean.shape[1]:  # nothing was learned yet
            return Prediction(images.new_zeros(len(images)))
        extra = {
            "s_energy": energy(mean),
            "s_unc": sample_variance(logits),
            "max_softmax": least_confidence(mean),
        }
        if not self.has_states:
            return Prediction(extra["s_energy"], extra_scores=extra)
        table = self._state_table()
        agnostic = table.agnostic(mean)
        states = {"s_agn": agnostic, "s_cond": table.conditional(mean, features["category"])}
        return Prediction(agnostic, extra_scores={**states, **extra})

    def prepare_detection(self) -> None:
        self._state_table()

    def _state_table(self) -> StateTable:
        classes = self.learner.classes
        if self._states is None or self._states[0] != classes:
            self._states = (classes, StateTable(classes if self.has_states else ()))
        return self._states[1]

    # ------------------------------------------------------------------------------------------------ reporting

    def num_learned_values(self) -> int:
        return self.learner.num_learned_values()

    def summary(self) -> MethodSummary:
        return self.learner.summary()

    def notes(self) -> Sequence[str]:
        text = getattr(self.learner, "text", None)
        return list(text.notes) if text is not None else []
