"""State of a stream of tasks, stored in a tensor so that it is part of a checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from anoframe.errors import AnoframeError


@dataclass
class Progress:
    """What has been trained and expanded so far, as JSON types.

    Attributes:
        slot_tasks: for each site, the task in which each of its slots was created, the oldest first.
        stages: training stages of the current task, those done and those known to follow. Each has a `kind`. A `scan`
            has a `pass` and the `batch` that it starts with. The others (`reconstruction`, `adapter`, `descriptor`,
            `statistics`) have `sites`, the indices of the sites whose newest slot they train or measure; an `adapter`
            stage with `reuse` trains all slots of these sites.
        task: the current task, or the last one if it is finished; None before the first.
        images: number of training images of that task.
        finished: whether that task is finished.
        expansions: one entry per expansion, with its reason.
        scans: one entry per scanned batch, with all z-scores.
    """

    slot_tasks: list[list[int]]
    stages: list[dict[str, Any]]
    task: int | None = None
    images: int = 0
    finished: bool = False
    expansions: list[dict[str, Any]] = field(default_factory=list)
    scans: list[dict[str, Any]] = field(default_factory=list)

    def has_expanded(self, site: int) -> bool:
        """Whether a site has a slot that was created in the current task."""
        return self.slot_tasks[site][-1] == self.task

    def to_tensor(self) -> Tensor:
        """The state as JSON text in a tensor, `[n]` uint8."""
        return torch.frombuffer(bytearray(json.dumps(asdict(self)).encode()), dtype=torch.uint8)

    @staticmethod
    def from_tensor(tensor: Tensor) -> Progress:
        """Read what `to_tensor` wrote.

        Raises:
            AnoframeError: the tensor does not hold such a state.
        """
        try:
            return Progress(**json.loads(tensor.cpu().numpy().tobytes()))
        except (ValueError, TypeError) as error:
            raise AnoframeError(f"the checkpoint's tensor `progress` is damaged ({error}): train again") from error
