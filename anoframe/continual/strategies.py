"""Strategies on a stream of tasks: what a later task may change. Training itself is the same for all of them.

- `finetune` trains each task from the weights of the previous one, without protection;
- `frozen` trains on the first task only;
- `ewc` is fine-tuning with elastic weight consolidation;
- `replay` is fine-tuning with a few images of earlier tasks among those of each task;
- `native` is the detector's own method, see :class:`anoframe.models.base.ContinualDetector`;
- `joint` trains on all tasks at once, an upper bound (the run then has a single task).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from anoframe.continual.names import STRATEGIES, strategy_name
from anoframe.errors import AnoframeError, suggest
from anoframe.models.base import ContinualDetector, Detector, Features, Observation, Phase, TaskData, TrainingBatch
from anoframe.models.components.exemplars import MemorySettings, exemplar_stage
from anoframe.types import Sample

State = dict[str, Tensor]


class Strategy:
    """Fine-tuning without protection; base class of the other strategies.

    Args:
        detector: the same for all tasks.

    Attributes:
        min_images: number of training images that each task must have.
        has_memory: whether a task leaves exemplars, which the next task sees again.
    """

    has_memory: bool = False

    def __init__(self, detector: Detector):
        self.detector = detector
        self.min_images = 1

    def prepare(self, task: int, data: TaskData) -> None:
        """Receive the training images of task number `task`, before `start`."""
        if isinstance(self.detector, ContinualDetector):
            self.detector.prepare_task(data)

    def start(self, task: int, images: int) -> None:
        """Start task number `task`, from 0, with `images` training images."""
        self.task = task

    def training_stages(self) -> Sequence[Observation | Phase]:
        """Training stages of the current task; called again after each stage."""
        return self.detector.training_stages()

    def finish(self) -> None:
        """Finish the current task."""

    def exemplar_rows(self) -> Sequence[int]:
        """Rows of the task's training images that the next task sees again."""
        return ()

    def exemplar_class(self, sample: Sample) -> str:
        """Class of a training image, for the list of exemplars."""
        return sample.category

    def state(self) -> State:
        """Tensors that the next task needs besides the learned state of the detector."""
        return {}

    def load_state(self, state: State) -> None:
        """Restore the result of `state`."""


class Frozen(Strategy):
    """Trains on the first task only."""

    def prepare(self, task: int, data: TaskData) -> None:
        if task == 0:
            super().prepare(task, data)

    def training_stages(self) -> Sequence[Observation | Phase]:
        return super().training_stages() if self.task == 0 else ()


class Native(Strategy):
    """The continual learning method of the detector itself."""

    detector: ContinualDetector

    def __init__(self, detector: ContinualDetector):
        super().__init__(detector)
        self.min_images, self.has_memory = detector.min_images, detector.has_memory

    def start(self, task: int, images: int) -> None:
        super().start(task, images)
        self.detector.start_task(task, images)

    def finish(self) -> None:
        self.detector.finish_task()

    def exemplar_rows(self) -> Sequence[int]:
        return self.detector.exemplar_rows()

    def exemplar_class(self, sample: Sample) -> str:
        return self.detector.exemplar_class(sample)


class Replay(Strategy):
    """Fine-tuning on the images of a task and exemplars of each earlier category, as often as the other images.

    A memory bank is built anew from both. The images of a category count as one class.

    Args:
        detector: any.
        memory: its selector must need no classifier.
        seed: of the selector `random`.

    Raises:
        AnoframeError: the selector needs a classifier.
    """

    has_memory = True

    def __init__(self, detector: Detector, memory: MemorySettings, seed: int):
        super().__init__(detector)
        if memory.needs_logits:
            raise AnoframeError(
                f"protocol.memory.selector {memory.selector} needs the logits of a classifier, and protocol.strategy "
                "replay has none: --protocol.memory.selector random, first or herding"
            )
        self.memory, self.seed = memory, seed
        self._data: TaskData | None = None
        self._memory = _Memory()

    def prepare(self, task: int, data: TaskData) -> None:
        super().prepare(task, data)
        self._data = data
        rows = (*data.exemplar_rows, *data.new_rows)  # earlier categories first
        self._memory = _Memory(tuple(dict.fromkeys(data.samples[row].category for row in rows)))

    def training_stages(self) -> Sequence[Observation | Phase]:
        stages = self.detector.training_stages()
        if self._data is None:
            return stages
        return [*stages, exemplar_stage(self._memory, self.memory, self._data, self.exemplar_class, self.seed)]

    def exemplar_rows(self) -> Sequence[int]:
        rows: list[int] = self._memory.exemplar_rows.tolist()
        return rows


class _Memory:
    """Receives the rows of the exemplars of a task.

    Attributes:
        classes: those of the exemplars.
        exemplar_rows: `[M]` int64.
    """

    def __init__(self, classes: Sequence[str] = ()):
        self.classes = classes
        self.exemplar_rows = torch.zeros(0, dtype=torch.int64)

    def logits(self, features: Tensor) -> Tensor:
        raise AssertionError("replay has no classifier")


class ElasticWeightConsolidation(Strategy):
    """Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017, equation 3.

    After each task the diagonal of the Fisher information is estimated from the squared gradients of each training
    image's loss, in eval mode. Later losses get the penalty `weight / 2 * sum over tasks k of F_k (p - p_k)^2`. Memory
    does not depend on the number of tasks: two numbers per parameter, `sum F_k` and `sum F_k p_k`, and a constant.

    Args:
        detector: trained by gradient descent.
        weight: of the penalty.
    """

    def __init__(self, detector: Detector, weight: float):
        super().__init__(detector)
        self.weight = weight
        self._consolidated: State = {}  # sums over the finished tasks
        self._squared_gradients: State = {}  # sums over the images of the current observation
        self._num_images = 0

    def training_stages(self) -> Sequence[Observation | Phase]:
        stages = list(self.detector.training_stages())
        phases = [stage for stage in stages if isinstance(stage, Phase)]
        penalised = [self._with_penalty(stage) if isinstance(stage, Phase) else stage for stage in stages]
        return [*penalised, *(self._fisher_observation(phase) for phase in phases)]

    def state(self) -> State:
        return self._consolidated

    def load_state(self, state: State) -> None:
        device = next(self.detector.buffers()).device
        self._consolidated = {name: value.to(device) for name, value in state.items()}

    def penalty(self, parameters: Mapping[str, nn.Parameter]) -> Tensor:
        """`weight / 2 * sum F (p - p_k)^2` over these parameters, a scalar; 0 before the first task is finished."""
        sums = self._consolidated
        terms = [
            (sums[f"fisher.{name}"] * parameter - 2 * sums[f"anchor.{name}"]).mul(parameter).sum()
            + sums[f"constant.{name}"]
            for name, parameter in parameters.items()
            if f"fisher.{name}" in sums
        ]
        return self.weight / 2 * torch.stack(terms).sum() if terms else torch.zeros(())

    def _with_penalty(self, phase: Phase) -> Phase:
        return replace(phase, loss=partial(self._penalised_loss, phase))

    def _penalised_loss(self, phase: Phase, batch: TrainingBatch) -> Mapping[str, Tensor]:
        penalty = {"ewc": self.penalty(phase.parameters)} if self._consolidated else {}
        return {**phase.loss(batch), **penalty}

    def _fisher_observation(self, phase: Phase) -> Observation:
        """Observation that estimates the Fisher information of a phase's parameters, one image at a time."""
        return Observation(
            f"{phase.name} fisher",
            partial(self._begin, phase),
            partial(self._observe, phase),
            partial(self._finish_observation, phase),
            batch_size=1,
        )

    def _begin(self, phase: Phase, images: int) -> None:
        self._squared_gradients = {name: torch.zeros_like(value) for name, value in phase.parameters.items()}
        self._num_images = 0

    def _observe(self, phase: Phase, features: Features, samples: Sequence[Sample]) -> None:
        device = next(iter(phase.parameters.values())).device
        rows = torch.arange(self._num_images, self._num_images + len(samples), device=device)
        parameters = list(phase.parameters.values())
        with torch.enable_grad():
            losses = phase.loss(TrainingBatch(features, tuple(samples), rows))
            gradients = torch.autograd.grad(torch.stack(list(losses.values())).sum(), parameters, allow_unused=True)
        for total, gradient in zip(self._squared_gradients.values(), gradients, strict=True):
            if gradient is not None:
                total += gradient.square()
        self._num_images += len(samples)

    def _finish_observation(self, phase: Phase) -> None:
        """Add the Fisher information of the current task to the sums over tasks."""
        sums = dict(self._consolidated)
        for name, parameter in phase.parameters.items():
            fisher, anchor = self._squared_gradients[name] / self._num_images, parameter.detach()
            for key, value in (
                (f"fisher.{name}", fisher),
                (f"anchor.{name}", fisher * anchor),
                (f"constant.{name}", (fisher * anchor.square()).sum()),
            ):
                sums[key] = sums[key] + value if key in sums else value
        self._consolidated, self._squared_gradients = sums, {}


def build_strategy(
    name: str, detector: Detector, ewc_weight: float, memory: MemorySettings | None = None, seed: int = 0
) -> Strategy:
    """Build a strategy by its name, or by a former name.

    Args:
        name: of the strategy.
        detector: that it trains.
        ewc_weight: of `ewc`.
        memory: of `replay`; None: its defaults.
        seed: of `replay`.

    Raises:
        AnoframeError: unknown name, or a strategy that does not work with this detector.
    """
    name = strategy_name(name)
    if name not in STRATEGIES:
        raise AnoframeError(f"unknown protocol.strategy {name!r}: {suggest(name, STRATEGIES)}")
    if name == "native":
        return _build_native(detector)
    if name in ("finetune", "ewc", "replay") and isinstance(detector, ContinualDetector) and detector.learns_classes:
        raise AnoframeError(
            f"protocol.strategy {name}: {type(detector).__name__} learns the classes of each task, which only its own "
            "method adds: --protocol.strategy native, joint or frozen"
        )
    if name == "ewc":
        return _build_ewc(detector, ewc_weight)
    if name == "replay":
        return Replay(detector, memory or MemorySettings(), seed)
    return Frozen(detector) if name == "frozen" else Strategy(detector)


def _build_native(detector: Detector) -> Native:
    if not isinstance(detector, ContinualDetector):
        raise AnoframeError(
            f"protocol.strategy native: {type(detector).__name__} has no continual learning method of its own: "
            "--protocol.strategy finetune"
        )
    if detector.native_strategy_error:
        raise AnoframeError(f"protocol.strategy native: {detector.native_strategy_error}; --protocol.strategy finetune")
    return Native(detector)


def _build_ewc(detector: Detector, weight: float) -> ElasticWeightConsolidation:
    if not weight > 0:
        raise AnoframeError(
            f"protocol.ewc_weight must be above 0, got {weight}; for training without a penalty: "
            "--protocol.strategy finetune"
        )
    if not any(isinstance(stage, Phase) for stage in detector.training_stages()):
        raise AnoframeError(
            f"protocol.strategy ewc penalises changes of trained weights, and {type(detector).__name__} is not trained "
            "by gradient descent: choose another --protocol.strategy"
        )
    return ElasticWeightConsolidation(detector, weight)
