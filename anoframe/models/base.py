"""Base classes of all methods: a frozen encoder, and something learned on top of its features.

    images --encode (frozen)--> features --detect--> Prediction

How a detector is trained is described in `anoframe.models.learner`, whose names a method can import from here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from anoframe.models.learner import (
    Features,
    Forecast,
    ImageSource,
    Learner,
    Observation,
    Phase,
    TaskData,
    TrainingBatch,
    Views,
)
from anoframe.types import Prediction, Sample
from anoframe.utils.parallel import first_tensor, map_images_on_cpu

T = TypeVar("T")
__all__ = [
    "ContinualDetector",
    "Detector",
    "Features",
    "Forecast",
    "ImageSource",
    "Learner",
    "Observation",
    "ObservingDetector",
    "Phase",
    "TaskData",
    "TrainingBatch",
    "Views",
]

UNKNOWN_CATEGORY = "object"  # name of the product in prompts if the category is not known


class Detector(Learner):
    """Base class of all methods. `self.backbone` is the frozen encoder; the rest of `state_dict` is learned.

    Attributes:
        uses_category: whether it knows the category name of each image at a test, see `add_category`. Nothing else
            about an image is known at a test, in particular no label.
        category_is_optional: whether the score and the map are the same without the category name, which then only adds
            to `extra_scores`.
        is_supervised: whether it learns from labelled defects. Other methods are given normal training images only, and
            results of both never share a table.
        accepts_new_categories: whether it can be tested on categories that it was not trained on.
        wants_synthetic_defects: whether its training images are to contain one synthetic defect per normal image, see
            anoframe/data/synthetic_samples.py.
        has_maps: whether it predicts anomaly maps; False: the key metric of a stream is one of images.
        scores_whole_images: whether the score of an image comes from the image as a whole and not from its map. Such a
            method cannot leave out padding and ignored regions, and it has no use for tiles.
    """

    uses_category: bool = False  # these are of an object: they may depend on settings
    category_is_optional: bool = False
    is_supervised: bool = False
    accepts_new_categories: bool = False
    wants_synthetic_defects: bool = False
    has_maps: bool = True
    scores_whole_images: bool = False

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    # ------------------------------------------------------------------------------------------------ encoding

    def encode(self, images: Tensor) -> Features:
        """Compute frozen features of RGB images.

        On a CPU each image is encoded alone, so its features do not depend on its batch, to the bit. All tensors of the
        result are contiguous: torch chooses kernels by memory layout, and features read from the cache are contiguous.

        Args:
            images: `[B, 3, H, W]`, uint8, or float in [0, 1].

        Returns:
            A tensor, or a list or dict of tensors, as `extract_features` returns.
        """
        return _join_features(map_images_on_cpu(self.extract_features, images))

    def extract_features(self, images: Tensor) -> Features:
        """Compute features of a batch of images; override it if `self.backbone(images)` is not enough."""
        return self.backbone(images)

    def encoding(self) -> dict[str, Any] | None:
        """Describe everything that features depend on besides the image, as JSON types; None if that is unknown.

        The feature cache relies on it: methods that share `extract_features` share the features of equal encodings. A
        method that overrides `extract_features` must override `encoding` too, or its features are not cached.
        """
        describe = getattr(self.backbone, "encoding", None)
        return describe() if describe else None

    def check_image_size(self, height: int, width: int) -> None:
        """Check the size of the images before any work; a method for one size overrides it.

        Args:
            height, width: in pixels, `data.crop` of the config, or `data.tile` if images are cut into tiles.

        Raises:
            AnoframeError: the method cannot use images of this size; names the keys to change.
        """

    # ------------------------------------------------------------------------------------------------ detecting

    @torch.no_grad()
    def detect(self, features: Features, size: tuple[int, int], categories: Sequence[str] | None = None) -> Prediction:
        """Compute scores and anomaly maps of a batch from its features, in eval mode and without gradients.

        On a CPU each image is computed alone, several in parallel, so its result does not depend on its batch, to the
        bit.

        Args:
            features: output of `encode` for `B` images.
            size: height and width of the maps.
            categories: `B` category names; only a method with `uses_category` sees them. None: not known.
        """
        if self.uses_category:
            unknown = [UNKNOWN_CATEGORY] * len(first_tensor(features))
            features = self.add_category(features, unknown if categories is None else categories)
        self.prepare_detection()
        return join_predictions(self.map_in_eval_mode(lambda batch: self.compute_prediction(batch, size), features))

    def add_category(self, features: Features, categories: Sequence[str]) -> Features:
        """Add what depends on the category of each image to features; implemented by methods with `uses_category`.

        Args:
            features: output of `encode` for `B` images.
            categories: `B` names; `"object"` where the category is not known.

        Returns:
            Features for `compute_prediction`, with tensors whose first axis is the image.
        """
        raise NotImplementedError(f"{type(self).__name__} does not use the category of an image")

    def prepare_detection(self) -> None:
        """Build objects that threads share in `compute_prediction`; called before each batch."""

    @abstractmethod
    def compute_prediction(self, features: Features, size: tuple[int, int]) -> Prediction:
        """Compute scores `[B]` and maps `[B, H, W]` of `size` from features of a batch.

        A method that scores images only returns no maps.

        Called by `detect` in eval mode and without gradients; on a CPU with one image at a time, in a thread. The
        result of an image must not depend on other images.
        """

    def detection_graph(self, size: tuple[int, int]) -> nn.Module:
        """Return a module that computes a `Prediction` from features, for export: one graph for batches of any size.

        The default calls `compute_prediction`. A method overrides it if its detection has loops over images, searches
        in blocks, or decisions that depend on values. Results equal those of `detect` up to rounding.

        Args:
            size: height and width of the maps.
        """
        return DetectionGraph(self, size)

    @torch.no_grad()
    def predict(self, images: Tensor, categories: Sequence[str] | None = None) -> Prediction:
        """Encode images `[B, 3, H, W]` and detect anomalies, with maps of the size of the images.

        Args:
            categories: as for `detect`.
        """
        return self.detect(self.encode(images), (images.shape[-2], images.shape[-1]), categories)

    @torch.no_grad()
    def map_in_eval_mode(self, function: Callable[[Features], T], features: Features) -> list[T]:
        """Call `function` on features in eval mode and without gradients, then restore the mode.

        Returns:
            The results: one per image on a CPU, where each image is computed alone; else one for the whole batch.
        """
        with self.eval_mode():
            return map_images_on_cpu(function, features)

    def notes(self) -> Sequence[str]:
        """List the sentences that stand beside every result of this detector, for example on how it may be compared."""
        return ()


class DetectionGraph(nn.Module):
    """Detection by the `compute_prediction` of a trained detector; arguments as for `Detector.detection_graph`."""

    def __init__(self, detector: Detector, size: tuple[int, int]):
        super().__init__()
        self.detector, self.size = detector, size

    def forward(self, features: Features) -> Prediction:
        return self.detector.compute_prediction(features, self.size)


class ObservingDetector(Detector):
    """Detector with a single training stage: one pass over the features of the training images.

    Attributes:
        stage_name: name of that stage; the time of `finish_observation` is reported under it.
    """

    stage_name: str = "observation"

    def training_stages(self) -> Sequence[Observation | Phase]:
        return [
            Observation(self.stage_name, self.begin_observation, self.observe, self.finish_observation, self.forecast)
        ]

    def forecast(self, features: Features, images: int) -> Forecast | None:
        """Estimate the cost of observing `images` images from features of some of them; None for no report."""
        return None

    @abstractmethod
    def begin_observation(self, images: int) -> None:
        """Discard earlier observations; `images` images will follow."""

    @abstractmethod
    def observe(self, features: Features, samples: Sequence[Sample]) -> None:
        """Process the features of a batch. Every training image comes once, in the order of the index."""

    @abstractmethod
    def finish_observation(self) -> None:
        """Compute the learned state from the observations."""


class ContinualDetector(Detector):
    """Detector with its own way to train on one task after another and keep earlier tasks.

    For each task of a stream: `start_task`, the stages of `training_stages`, `finish_task`. Without `start_task`, the
    detector trains as on a single task. `learned_state` holds everything that the next task needs from earlier ones.

    Attributes:
        native_strategy_error: why the strategy `native` is not available for this subclass; empty if it is.
        min_images: number of training images that each task must have at least.
        learns_classes: whether each task adds classes, so that strategies that know nothing of them do not fit.
        has_memory: whether a task leaves exemplars, see `exemplar_rows`.
    """

    native_strategy_error: str = ""
    min_images: int = 1
    learns_classes: bool = False
    has_memory: bool = False

    def prepare_task(self, data: TaskData) -> None:
        """Receive the training images of the next task, before `start_task`; for methods that use their classes."""

    @abstractmethod
    def start_task(self, task: int, images: int) -> None:
        """Begin task number `task`, counted from 0, with `images` training images; then `training_stages` is for it."""

    @abstractmethod
    def finish_task(self) -> None:
        """Make the state learned on this task permanent."""

    def exemplar_rows(self) -> Sequence[int]:
        """Rows of the training images of the current task that the next task sees again."""
        return ()

    def exemplar_class(self, sample: Sample) -> str:
        """Class of a training image, for the list of exemplars."""
        return sample.category


def _join_features(batches: Sequence[Features]) -> Features:
    """Concatenate features of several batches; all tensors are contiguous."""
    first = batches[0]
    if isinstance(first, Tensor):
        return torch.cat(list(batches)).contiguous()
    if isinstance(first, Mapping):
        return {name: _join_features([batch[name] for batch in batches]) for name in first}
    return [_join_features(level) for level in zip(*batches, strict=True)]


def join_predictions(batches: Sequence[Prediction]) -> Prediction:
    """Concatenate predictions of several batches."""
    first = batches[0]
    if len(batches) == 1:
        return first
    maps = [batch.anomaly_map for batch in batches if batch.anomaly_map is not None]
    patches = [batch.patch_scores for batch in batches if batch.patch_scores is not None]
    return Prediction(
        torch.cat([batch.score for batch in batches]),
        torch.cat(maps) if maps else None,
        {name: torch.cat([batch.extra_maps[name] for batch in batches]) for name in first.extra_maps},
        {name: torch.cat([batch.extra_scores[name] for batch in batches]) for name in first.extra_scores},
        patch_scores=torch.cat(patches) if patches else None,
    )
