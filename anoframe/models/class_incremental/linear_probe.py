"""Linear probe with replay: a linear layer on frozen features, trained on each task and on exemplars of earlier ones.

A baseline that any class-incremental method must beat on the same encoder. With `memory.per_class` 0 it has no replay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.class_incremental.base import ClassIncrementalLearner, ClassOf, category_class
from anoframe.models.class_incremental.labels import label_rows, new_classes
from anoframe.models.class_incremental.settings import read_settings
from anoframe.models.components.exemplars import MemorySettings, exemplar_stage
from anoframe.models.learner import Observation, Phase, TaskData, TrainingBatch
from anoframe.models.summary import MethodSummary

PHASES = ("task", "balance")


class LinearProbe(ClassIncrementalLearner):
    """Logits are `weight @ v + bias`, with v the feature vector of length sqrt(D).

    A task has the phases of CLAP4CLIP: `task`, on its new images and the exemplars, with weights for the new classes
    that start at 0; and `balance`, on equally many exemplars of every class.

    Args:
        features: length D of a feature vector.
        class_of: class of a training sample.
        seed: of the choice of exemplars.
        balance: train the phase `balance` after the first task, if there are exemplars.
        memory: arguments of `MemorySettings`.
    """

    def __init__(
        self,
        features: int,
        class_of: ClassOf = category_class,
        seed: int = 0,
        balance: bool = True,
        memory: Mapping[str, Any] | None = None,
    ):
        super().__init__(features, class_of)
        self.seed, self.balance = seed, balance
        self.memory = read_settings(MemorySettings, memory, "model.classifier.memory")
        self.weight = nn.Parameter(torch.zeros(0, features))
        self.bias = nn.Parameter(torch.zeros(0))
        self._data: TaskData | None = None
        self._labels = torch.zeros(0, dtype=torch.int64)

    def start_task(self, task: int, data: TaskData) -> None:
        begun = len(self.class_counts)
        if begun == task:
            names = new_classes(data, self.class_of, self.classes)
            self.add_classes(names)
            self.exemplar_rows = self.exemplar_rows[:0]
            self._resize(len(self.classes))
        elif begun != task + 1:
            raise AnoframeError(f"task {task} cannot be trained now, {begun} were begun: train tasks in order")
        self._data, self._labels = data, label_rows(data, self.class_of, self.classes)

    def finish_task(self) -> None:
        """Do nothing: every change is permanent."""

    def phase_names(self) -> Sequence[str]:
        return PHASES

    def training_stages(self) -> Sequence[Observation | Phase]:
        if self._data is None:  # no task yet: the list of phases, for the checks of a plan
            return [self._phase("task", None), self._phase("balance", None)]
        stages: list[Observation | Phase] = [self._phase("task", None)]
        if self.memory.is_empty:
            return stages
        stages.append(exemplar_stage(self, self.memory, self._data, self.class_of, self.seed))
        if self.balance and len(self.class_counts) > 1:
            stages.append(self._phase("balance", self.exemplar_rows.tolist()))
        return stages

    def logits(self, features: Tensor, jointly: bool = False) -> Tensor:
        with torch.no_grad():
            return self._logits(features)[None]

    def load_learned_state(self, state: dict[str, Tensor]) -> None:
        """Load a state of `learned_state`, with as many classes as it has."""
        if "bias" in state:
            self._resize(len(state["bias"]))
        super().load_learned_state(state)

    def summary(self) -> MethodSummary:
        return MethodSummary({"growth/classes": len(self.classes)})

    def _phase(self, name: str, rows: Sequence[int] | None) -> Phase:
        parameters = {"weight": self.weight, "bias": self.bias}
        return Phase(name, parameters, self._loss, rows=rows, measurements=("accuracy",))

    def _loss(self, batch: TrainingBatch) -> Mapping[str, Tensor]:
        logits, labels = self._logits(batch.features), self._labels.to(batch.rows.device)[batch.rows]
        hits = logits.detach().argmax(-1) == labels
        return {"cross_entropy": F.cross_entropy(logits, labels), "accuracy": hits.float().mean()}

    def _logits(self, features: Tensor) -> Tensor:
        unit = F.normalize(features.float(), dim=-1) * self.features**0.5
        return F.linear(unit, self.weight, self.bias)

    def _resize(self, classes: int) -> None:
        """Keep the weights of the first classes and add zeros for new ones, as new parameters."""
        kept = min(classes, len(self.bias))
        weight, bias = self.weight.new_zeros(classes, self.features), self.bias.new_zeros(classes)
        with torch.no_grad():
            weight[:kept], bias[:kept] = self.weight[:kept], self.bias[:kept]
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
