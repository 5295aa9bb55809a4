"""What every method is: a frozen encoder, and something learned on top of its features.

    images --encode (frozen, pure)--> features --detect--> Prediction

A detector says how it learns, as a list of steps, and a trainer runs them; no detector owns a training loop:

- an `Observation` sees all features once and then concludes (a memory bank, a Gaussian);
- a `Phase` is gradient descent on a loss (a decoder, a transformer);
- no steps at all: zero-shot.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from anoframe.errors import AnoframeError
from anoframe.models.summary import MethodSummary
from anoframe.types import Prediction, Sample
from anoframe.utils.parallel import first_tensor, map_images

Features = Any  # what encode returns: each method's own, made of tensors whose first axis is the batch


@dataclass(frozen=True)
class Forecast:
    """What learning will take, to be told before it starts."""

    text: str
    memory: int  # bytes, beside what is in use now
    remedy: str  # what to change where that is too much


def _no_forecast(features: Features, images: int) -> Forecast | None:
    return None


@dataclass(frozen=True)
class Observation:
    """A step of learning: one pass over the features of the training images, then a conclusion.

    Args:
        name: of the stage that its conclusion is timed as.
        begin: start afresh; so many images will be observed.
        observe: take in the features of a batch. True: that was enough, show no more.
        conclude: make of all that was observed what comes next.
        forecast: what learning from so many images with such features will take; None where it is not worth a word.
        rows: which training images, in which order, by their place in the index; None is every one once, in its order.
            All features are held in memory or a file for it, as for a `Phase`.
        together: images in a batch; None leaves it to the trainer.
    """

    name: str
    begin: Callable[[int], None]
    observe: Callable[[Features, Sequence[Sample]], bool | None]
    finish: Callable[[], None]
    forecast: Callable[[Features, int], Forecast | None] = _no_forecast
    rows: Sequence[int] | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class TrainingBatch:
    """What a loss sees of a batch of training images."""

    features: Features
    samples: tuple[Sample, ...]
    rows: Tensor  # [B] int64, the place of each among the training images, in the order of the index

    def __len__(self) -> int:
        return len(self.samples)


@dataclass(frozen=True)
class Phase:
    """A step of learning: gradient descent. How long and by which optimiser says the `trainer` section of the config.

    Args:
        name: names it in progress, curves, and in `trainer.phases`, where it can have settings of its own.
        parameters: what is changed, by name; nothing else is.
        loss: of a batch, in train mode: name -> scalar, each a mean over the images of the batch. They are added up.
        rows: which training images, by their place in the index; None is all.
        label: tells phases of one name apart in progress and curves, as "layer 3 ffn" does.
    """

    name: str
    parameters: Mapping[str, nn.Parameter]
    loss: Callable[[TrainingBatch], Mapping[str, Tensor]]
    rows: Sequence[int] | None = None
    label: str = ""


class Detector(nn.Module, ABC):
    """Base of all methods. The encoder is `self.backbone`; everything else in `state_dict` is what was learned."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def encode(self, images: Tensor) -> Features:
        """Frozen features of `[B, 3, H, W]` RGB images, a tensor or a list of tensors.

        On a CPU each image is encoded by itself, so that its features do not depend on its batch, to the bit. Results
        are contiguous: kernels are chosen by memory layout, and features from the cache have no other.
        """
        if images.device.type != "cpu":
            return _join_features([self.extract_features(images)])
        return _join_features(map_images(self.extract_features, images))

    def extract_features(self, images: Tensor) -> Features:
        """Features of a batch of images, to override where `self.backbone(images)` is not enough."""
        return self.backbone(images)

    def encoding(self) -> dict[str, Any] | None:
        """All that `encode` depends on besides the image, as JSON types; None where that is not known.

        The cache relies on it: all methods that share an `encode` share the features of equal encodings. A method with
        an `encode` of its own needs an `encoding` of its own, or its features are not cached; cached ones are a
        contiguous tensor, or a list of them.
        """
        describe = getattr(self.backbone, "encoding", None)
        return describe() if describe else None

    def training_stages(self) -> Sequence[Observation | Phase]:
        """The steps by which it learns, in their order; none for zero-shot.

        Asked again after each step, because what follows may depend on what was learned, and when a run is resumed.
        Steps that are done stay in front.
        """
        return ()

    def phase_names(self) -> Sequence[str]:
        """Names that its phases may have, for `trainer.phases` of the config: those of a later task among them."""
        return list(dict.fromkeys(step.name for step in self.training_stages() if isinstance(step, Phase)))

    @torch.no_grad()
    def detect(self, features: Features, size: tuple[int, int]) -> Prediction:
        """Scores and maps of `size` from the features of a batch, in eval mode whatever mode the detector is in.

        On a CPU each image is computed by itself, several at once, so that its result does not depend on its batch, to
        the bit.
        """
        training = self.training
        if training:
            self.eval()
        try:
            self.prepare_detection()
            if first_tensor(features).device.type != "cpu":
                return self.compute_prediction(features, size)
            return _join_predictions(map_images(lambda one: self.compute_prediction(one, size), features))
        finally:
            if training:
                self.train()

    def prepare_detection(self) -> None:
        """Build what `compute_prediction` needs and several threads share; called once before each batch."""

    def compute_prediction(self, features: Features, size: tuple[int, int]) -> Prediction:
        """Scores and maps of `size` from the features of a batch. An image's result depends on no other image."""
        raise NotImplementedError

    @torch.no_grad()
    def predict(self, images: Tensor) -> Prediction:
        """`detect` on `encode`, for images of any batch size."""
        return self.detect(self.encode(images), (images.shape[-2], images.shape[-1]))

    def summary(self) -> MethodSummary:
        """What the method has to say about what it learned; the run, the report and the trackers show it."""
        return MethodSummary()

    def messages(self) -> Sequence[str]:
        """One line for each event of the current training so far, for the console; the list only grows."""
        return ()

    def learned_state(self) -> dict[str, Tensor]:
        """Tensors that a checkpoint holds: all but the frozen encoder's."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("backbone.")}

    def num_learned_values(self) -> int:
        """How large what was learned is: parameters, and what is kept beside them, as the entries of a bank."""
        return sum(value.numel() for value in self.learned_state().values() if value.is_floating_point())

    def load_learned_state(self, state: dict[str, Tensor]) -> None:
        """Put back what `learned_state` gave. A buffer takes the shape it had; parameters keep theirs."""
        expected = self.learned_state()
        if state.keys() != expected.keys():
            names = sorted(state.keys() ^ expected.keys())
            raise AnoframeError(
                f"the checkpoint is of another method or version: {', '.join(names[:5])} do not match; fit again"
            )
        buffers = dict(self.named_buffers())
        for name, value in state.items():
            if name in buffers:
                owner, _, attribute = name.rpartition(".")
                setattr(self.get_submodule(owner), attribute, value.to(buffers[name].device))
            elif value.shape != expected[name].shape:
                shapes = f"{tuple(value.shape)}, expected {tuple(expected[name].shape)}"
                raise AnoframeError(f"the checkpoint's {name} has the shape {shapes}; fit again")
            else:
                expected[name].copy_(value)


class ContinualDetector(Detector):
    """Has a way of its own to learn one task after another and keep what it knew.

    On one of a stream of tasks: `start_task`, then the steps of `learning`, then `finish_task`. One that is given no
    task learns as if there were but one. `learned_state` holds all that the next task needs to know of this one.

    Attributes:
        cannot_expand: why it has no such way after all, for a detector made of one that has; empty otherwise.
        least_images: training images that each task must have.
    """

    cannot_expand: str = ""
    least_images: int = 1

    @abstractmethod
    def start_task(self, task: int, images: int) -> None:
        """Task number `task`, from 0, begins, with so many training images; `learning` speaks of it from now on."""

    @abstractmethod
    def finish_task(self) -> None:
        """What was learned is to be kept."""

    def growth(self) -> dict[str, Any]:
        """What has grown, as JSON types, for the results of a stream; see docs/continual.md."""
        return {}


class ObservingDetector(Detector):
    """Learns by one observation: one pass over the features of the training images, then a conclusion."""

    def training_stages(self) -> Sequence[Observation | Phase]:
        return [Observation("conclude", self.begin_observation, self.observe, self.finish_observation, self.forecast)]

    def forecast(self, features: Features, images: int) -> Forecast | None:
        """What learning from `images` images with such features will take; None where it is not worth a word."""
        return None

    @abstractmethod
    def begin_observation(self, images: int) -> None:
        """Start afresh; `images` will be observed."""

    @abstractmethod
    def observe(self, features: Features, samples: Sequence[Sample]) -> None:
        """Take in the features of a batch. Called with every training image once, in the order of the index."""

    @abstractmethod
    def finish_observation(self) -> None:
        """Make of all that was observed what `detect` needs."""


def _join_features(parts: Sequence[Features]) -> Features:
    """Features of several batches as those of one, contiguous."""
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts)).contiguous()
    return [torch.cat(level).contiguous() for level in zip(*parts, strict=True)]


def _join_predictions(parts: Sequence[Prediction]) -> Prediction:
    """Predictions of several batches as those of one."""
    extra = {name: torch.cat([part.extra_maps[name] for part in parts]) for name in parts[0].extra_maps}
    return Prediction(torch.cat([p.score for p in parts]), torch.cat([p.anomaly_map for p in parts]), extra)
