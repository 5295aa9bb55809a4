"""What keeps a detector from forgetting while tasks come one after another; the trainer is the same for all.

- `finetune` learns each task from where the last one left it, with no protection;
- `frozen` learns the first task alone;
- `ewc` is fine-tuning held back by elastic weight consolidation;
- `expand` is the detector's own way: see :class:`anoframe.models.base.ContinualDetector`;
- `joint` learns all tasks at once, an upper bound (the run then has one task to learn).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from anoframe.errors import AnoframeError, suggest
from anoframe.models.base import ContinualDetector, Detector, Features, Observation, Phase, TrainingBatch
from anoframe.types import Sample

STRATEGIES = ("finetune", "frozen", "ewc", "expand", "joint")
State = dict[str, Tensor]


class Strategy:
    """Fine-tuning, which others change.

    Args:
        detector: that learns; the same for all tasks.

    Attributes:
        least_images: training images that each task must have.
    """

    def __init__(self, detector: Detector):
        self.detector = detector
        self.least_images = 1

    def start(self, task: int, images: int) -> None:
        """Task number `task`, from 0, begins, with so many training images."""
        self.task = task

    def training_stages(self) -> Sequence[Observation | Phase]:
        """Steps of the task, asked again after each of them."""
        return self.detector.training_stages()

    def finish(self) -> None:
        """The task is learned."""

    def state(self) -> State:
        """What the next task needs to know besides what the detector learned."""
        return {}

    def load_state(self, state: State) -> None:
        """Put back what `state` gave."""


class Frozen(Strategy):
    """Learns the first task alone."""

    def training_stages(self) -> Sequence[Observation | Phase]:
        return super().training_stages() if self.task == 0 else ()


class Expand(Strategy):
    """The detector's own way."""

    detector: ContinualDetector

    def __init__(self, detector: ContinualDetector):
        super().__init__(detector)
        self.least_images = detector.least_images

    def start(self, task: int, images: int) -> None:
        super().start(task, images)
        self.detector.start_task(task, images)

    def finish(self) -> None:
        self.detector.finish_task()


class ElasticWeightConsolidation(Strategy):
    """Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017, equation 3.

    After each task the diagonal of the Fisher information is estimated from the squared gradients of each training
    image's loss, in eval mode. Later losses have `weight / 2 * sum over tasks k of F_k (p - p_k)^2` beside them, kept
    as two numbers a parameter, however many the tasks, `sum F_k` and `sum F_k p_k`, and a constant.

    Args:
        detector: that learns, by phases.
        weight: of the penalty.
    """

    def __init__(self, detector: Detector, weight: float):
        super().__init__(detector)
        self.weight = weight
        self._known: State = {}
        self._squares: State = {}
        self._images = 0

    def training_stages(self) -> Sequence[Observation | Phase]:
        steps = list(self.detector.training_stages())
        phases = [step for step in steps if isinstance(step, Phase)]
        held = [self._with_penalty(step) if isinstance(step, Phase) else step for step in steps]
        return [*held, *(self._fisher(phase) for phase in phases)]

    def state(self) -> State:
        return self._known

    def load_state(self, state: State) -> None:
        device = next(self.detector.buffers()).device
        self._known = {name: value.to(device) for name, value in state.items()}

    def penalty(self, parameters: Mapping[str, nn.Parameter]) -> Tensor:
        """`weight / 2 * sum F (p - p_k)^2` of these, a scalar; 0 before the first task is learned."""
        terms = [
            (self._known[f"fisher.{name}"] * one - 2 * self._known[f"anchor.{name}"]).mul(one).sum()
            + self._known[f"constant.{name}"]
            for name, one in parameters.items()
            if f"fisher.{name}" in self._known
        ]
        return self.weight / 2 * torch.stack(terms).sum() if terms else torch.zeros(())

    def _with_penalty(self, phase: Phase) -> Phase:
        return replace(phase, loss=partial(self._held_back, phase))

    def _held_back(self, phase: Phase, batch: TrainingBatch) -> Mapping[str, Tensor]:
        penalty = {"ewc": self.penalty(phase.parameters)} if self._known else {}
        return {**phase.loss(batch), **penalty}

    def _fisher(self, phase: Phase) -> Observation:
        name, begin = f"{phase.name} fisher", partial(self._begin, phase)
        return Observation(name, begin, partial(self._observe, phase), partial(self._conclude, phase), batch_size=1)

    def _begin(self, phase: Phase, images: int) -> None:
        self._squares = {name: torch.zeros_like(one) for name, one in phase.parameters.items()}
        self._images = 0

    def _observe(self, phase: Phase, features: Features, samples: Sequence[Sample]) -> None:
        device = next(iter(phase.parameters.values())).device
        rows = torch.arange(self._images, self._images + len(samples), device=device)
        parameters = list(phase.parameters.values())
        with torch.enable_grad():
            losses = phase.loss(TrainingBatch(features, tuple(samples), rows))
            found = torch.autograd.grad(torch.stack(list(losses.values())).sum(), parameters, allow_unused=True)
        for total, gradient in zip(self._squares.values(), found, strict=True):
            if gradient is not None:
                total += gradient.square()
        self._images += len(samples)

    def _conclude(self, phase: Phase) -> None:
        known = dict(self._known)
        for name, one in phase.parameters.items():
            fisher, anchor = self._squares[name] / self._images, one.detach()
            for key, value in (
                (f"fisher.{name}", fisher),
                (f"anchor.{name}", fisher * anchor),
                (f"constant.{name}", (fisher * anchor.square()).sum()),
            ):
                known[key] = known[key] + value if key in known else value
        self._known, self._squares = known, {}


def build_strategy(name: str, detector: Detector, ewc_weight: float) -> Strategy:
    """A strategy by its name.

    Raises:
        AnoframeError: unknown, or one that this detector cannot follow.
    """
    if name not in STRATEGIES:
        raise AnoframeError(f"unknown protocol.strategy {name!r}: {suggest(name, STRATEGIES)}")
    if name == "expand":
        if not isinstance(detector, ContinualDetector):
            kind = type(detector).__name__
            raise AnoframeError(f"{kind} has no way of its own to learn task after task: --protocol.strategy finetune")
        if detector.cannot_expand:
            raise AnoframeError(f"protocol.strategy expand: {detector.cannot_expand}; --protocol.strategy finetune")
        return Expand(detector)
    if name == "ewc":
        if not ewc_weight > 0:
            raise AnoframeError(
                f"protocol.ewc_weight is above 0, got {ewc_weight}: --protocol.strategy finetune holds nothing back"
            )
        if not any(isinstance(step, Phase) for step in detector.training_stages()):
            kind = type(detector).__name__
            raise AnoframeError(f"ewc holds back gradients, and {kind} learns without any: another --protocol.strategy")
        return ElasticWeightConsolidation(detector, ewc_weight)
    return Frozen(detector) if name == "frozen" else Strategy(detector)
