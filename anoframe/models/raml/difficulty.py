"""Difficulty of categories: a moving average of their losses, and the weight in the loss that follows from it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MOMENTUM = 0.7
STRENGTH = 0.5
WEIGHT_RANGE = (0.5, 2.0)
LEAST_MEAN = 1e-6  # with a smaller mean loss all weights are 1
_SEPARATOR = "\0"  # cannot be part of the name of a folder


class DifficultyTracker(nn.Module):
    """Moving average E_C of the loss of each category, updated image by image: `E_C <- 0.7 E_C + 0.3 loss`.

    Its state is in buffers, so that checkpoints contain it: the names of the categories as UTF-8, in the order in which
    they were first seen, and the averages in float64.
    """

    names: Tensor
    averages: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("names", torch.empty(0, dtype=torch.uint8))
        self.register_buffer("averages", torch.empty(0, dtype=torch.float64))

    def state(self) -> dict[str, float]:
        """Return category -> average, in the order in which the categories were first seen."""
        if not len(self.averages):
            return {}
        names = bytes(self.names.tolist()).decode().split(_SEPARATOR)
        return dict(zip(names, self.averages.tolist(), strict=True))

    def weights(self, categories: Sequence[str]) -> list[float]:
        """Compute the weight of each category.

        `clip(1 + 0.5 (E_C - mean) / mean, 0.5, 2)` with the mean over the categories seen so far; 1 for a new category,
        while fewer than two categories were seen, and if the mean is below 1e-6.
        """
        state = self.state()
        mean = sum(state.values()) / max(1, len(state))
        if len(state) < 2 or mean < LEAST_MEAN:
            return [1.0] * len(categories)
        low, high = WEIGHT_RANGE
        by_category = {
            name: min(max(1 + STRENGTH * (average - mean) / mean, low), high) for name, average in state.items()
        }
        return [by_category.get(category, 1.0) for category in categories]

    def update(self, categories: Sequence[str], losses: Sequence[float]) -> None:
        """Update with the losses of images in the order of the batch; the first loss of a category is its average."""
        state = self.state()
        for category, loss in zip(categories, losses, strict=True):
            state[category] = MOMENTUM * state[category] + (1 - MOMENTUM) * loss if category in state else loss
        self._set_state(state)

    def _set_state(self, state: dict[str, float]) -> None:
        device = self.averages.device
        names = _SEPARATOR.join(state).encode()
        self.names = torch.tensor(list(names), dtype=torch.uint8, device=device)
        self.averages = torch.tensor(list(state.values()), dtype=torch.float64, device=device)
