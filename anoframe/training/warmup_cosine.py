"""The learning rate schedule of CLAP4CLIP and CoOp: a linear warm-up from 0, then a cosine that starts after it."""

from __future__ import annotations

import math

import torch


class WarmupCosine:
    """Sets the learning rate of each step.

    With W warm-up steps of N, step n < W has the share (n + 1) / (W + 1) of the learning rate: it reaches neither 0 nor
    1. Step n >= W is step n - W of a cosine of N - W steps from 1 towards `final_share`, which would be that of step N.

    Args:
        optimizer: whose learning rates, as they are now, are the peaks.
        num_steps: N.
        warmup_share: W / N, in [0, 1); W is rounded down.
        final_share: share of the peak at the end of the cosine.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, num_steps: int, warmup_share: float, final_share: float):
        self._optimizer, self._num_steps, self._final_share = optimizer, num_steps, final_share
        self._warmup = int(warmup_share * num_steps)
        self._peaks = [group["lr"] for group in optimizer.param_groups]

    def share(self, step: int) -> float:
        """Return the share of the peak at a step, counted from 0."""
        if step < self._warmup:
            return (step + 1) / (self._warmup + 1)
        done = (step - self._warmup) / (self._num_steps - self._warmup)
        return self._final_share + (1 - self._final_share) * (1 + math.cos(math.pi * done)) / 2

    def step_update(self, step: int) -> None:
        """Set the learning rates of a step, counted from 0."""
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * self.share(step)
