"""Interface of everything that learns: training stages and a learned state.

A learner lists the stages of its training, and a trainer runs them; no learner owns a training loop:

- an `Observation` is one pass over the features of the training images (a memory bank, a Gaussian);
- a `Phase` is gradient descent on a loss (a decoder, a transformer), on features or on views of the images;
- an empty list: nothing is trained.

A detector (`anoframe.models.base`) is a learner that also encodes images and detects anomalies.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from anoframe.errors import AnoframeError
from anoframe.models.summary import MethodSummary
from anoframe.types import Sample

Features = Any  # output of `encode`: a tensor, or a list or dict of tensors, whose first axis is the batch


@dataclass(frozen=True)
class Forecast:
    """Estimated cost of an observation, reported before it starts.

    Attributes:
        text: sentence for the console.
        memory: bytes needed in addition to the memory in use now.
        remedy: settings to change if that is more than the free memory.
    """

    text: str
    memory: int
    remedy: str


def _no_forecast(features: Features, images: int) -> Forecast | None:
    return None


@dataclass(frozen=True)
class Observation:
    """Training stage: one pass over the features of the training images, without gradients.

    Attributes:
        name: name of the stage; the time of `finish` is reported under it.
        begin: called first, with the number of images that will be observed; discards earlier observations.
        observe: called with the features and samples of each batch. Returns True to end the pass early.
        finish: called last; computes the learned state from the observations.
        forecast: estimates the cost from the features of the first batch and the number of images; None for no report.
        rows: training images to observe, in this order, as positions in the index; None is each image once, in order.
            With `rows`, all features are held in memory or in a file, as for a `Phase`.
        batch_size: images per batch; None leaves it to the trainer.
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
    """Argument of a loss: a batch of training images. `features` are the views of a phase that has `views`."""

    features: Features
    samples: tuple[Sample, ...]
    rows: Tensor  # [B] int64, position of each image in the index of the training images

    def __len__(self) -> int:
        return len(self.samples)


@dataclass(frozen=True)
class TaskData:
    """Training images of one task of a stream, in the order of the index (`TrainingBatch.rows`).

    Attributes:
        samples: the new images, then the exemplars of earlier tasks.
        num_new: number of new images.
    """

    samples: tuple[Sample, ...]
    num_new: int

    @property
    def new_rows(self) -> range:
        """Positions of the new images."""
        return range(self.num_new)

    @property
    def exemplar_rows(self) -> range:
        """Positions of the exemplars of earlier tasks."""
        return range(self.num_new, len(self.samples))


class ImageSource(Protocol):
    """Training images in the order of the index, resized and cropped."""

    def __len__(self) -> int: ...

    def pixels(self, row: int) -> Tensor:
        """Return image `row` as uint8 `[3, H, W]`; the caller does not change it."""

    def sample(self, row: int) -> Sample:
        """Return the sample of image `row`."""


Views = Callable[[ImageSource, int, np.random.Generator], Mapping[str, Tensor]]
"""Draw what a phase sees of an image instead of its features: `draw(images, row, rng)` returns name -> tensor without a
batch axis, of the same shape for every image. It is a pure function: all randomness comes from `rng`, which is seeded
from the seed of the fit, the stage, the epoch and the row, so that neither the number of workers nor an interruption
changes a result. It may read other images, for example as the source of a synthetic defect.
"""


@dataclass(frozen=True)
class Phase:
    """Training stage: gradient descent on a loss. Its length and optimiser come from the `trainer` section of a config.

    Attributes:
        name: name in progress bars and curves, and key in `trainer.phases` for settings of this phase alone.
        parameters: name -> parameter; only these are trained.
        loss: computes name -> scalar for a batch, in train mode. Each scalar is a mean over the images of the batch;
            the trainer minimises the sum of those that are not `measurements`.
        rows: training images to use, as positions in the index; None is all.
        label: distinguishes phases of the same name in progress bars and curves, for example "layer 3 ffn".
        views: draws augmented views, or an image with a synthetic defect, in place of the cached features.
        measurements: names of the scalars of `loss` that are only reported, for example an accuracy.
        couples_batch: the loss of an image depends on the other images of its batch (a contrastive loss, statistics of
            the batch), so it cannot be computed in parts: not on several devices, and not with `trainer.accumulate`.
    """

    name: str
    parameters: Mapping[str, nn.Parameter]
    loss: Callable[[TrainingBatch], Mapping[str, Tensor]]
    rows: Sequence[int] | None = None
    label: str = ""
    views: Views | None = None
    measurements: Collection[str] = ()
    couples_batch: bool = False


class Learner(nn.Module, ABC):
    """Base class of everything that is trained."""

    def training_stages(self) -> Sequence[Observation | Phase]:
        """List the training stages in order; empty for zero-shot.

        Called again after each stage and when a run is resumed, because later stages may depend on the learned state.
        Finished stages stay at the front of the list.
        """
        return ()

    def phase_names(self) -> Sequence[str]:
        """List the names that phases may have in `trainer.phases`, including phases of later tasks."""
        return list(dict.fromkeys(stage.name for stage in self.training_stages() if isinstance(stage, Phase)))

    def summary(self) -> MethodSummary:
        """Report the learned state as scalars, tables and series for the run, the report and the trackers."""
        return MethodSummary()

    def messages(self) -> Sequence[str]:
        """List one console line per event of the training so far; lines are only ever appended."""
        return ()

    @contextmanager
    def eval_mode(self) -> Iterator[None]:
        """Context in eval mode; the earlier mode is restored at its end."""
        training = self.training
        if training:
            self.eval()
        try:
            yield
        finally:
            if training:
                self.train()

    # ------------------------------------------------------------------------------------------------ checkpoints

    def learned_state(self) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint: `state_dict` without the frozen encoder."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("backbone.")}

    def num_learned_values(self) -> int:
        """Count the learned floating-point values: parameters, and buffers such as the entries of a memory bank."""
        return sum(value.numel() for value in self.learned_state().values() if value.is_floating_point())

    def load_learned_state(self, state: dict[str, Tensor]) -> None:
        """Load the output of `learned_state`. Buffers take the shapes of `state`; parameters must match in shape.

        Raises:
            AnoframeError: names differ, or a parameter has another shape.
        """
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
