"""Measure the losses of descriptors on training images, the reference of their z-scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from anoframe.models.base import Features
from anoframe.models.sema_uniad.adapters import AdapterSite
from anoframe.types import Sample


class StatisticsPass:
    """One pass that fills the loss records of the newest descriptors of some sites, in eval mode.

    Args:
        sites: site index -> site.
        token_means: computes the token means of a batch, `[B, d]` per site index.
        size: number of images that are measured.
        seed: chooses the images, together with the task.
        task: number of the task.

    Attributes:
        chosen: `[images]` bool, the images that are measured. They are drawn from the whole task: the last ones would
            all belong to its last categories.
    """

    def __init__(
        self,
        sites: Mapping[int, AdapterSite],
        token_means: Callable[[Tensor], Mapping[int, Tensor]],
        size: int,
        seed: int,
        task: int,
    ):
        self.sites, self.token_means, self.size, self.seed = sites, token_means, size, (seed, 2, task)
        self.chosen = torch.zeros(0, dtype=torch.bool)

    def begin(self, images: int) -> None:
        """Choose the images and clear the records."""
        order = np.random.default_rng(self.seed).permutation(images)
        self.chosen = torch.zeros(images, dtype=torch.bool)
        self.chosen[order[-self.size :]] = True
        self._next_row = 0
        for site in self.sites.values():
            site.newest.descriptor.record.clear()

    def observe(self, features: Features, samples: Sequence[Sample]) -> None:
        """Record the losses of the chosen images of a batch."""
        chosen = self.chosen[self._next_row : self._next_row + len(samples)]
        self._next_row += len(samples)
        if not chosen.any():
            return
        means = self.token_means(features[chosen.to(features.device)])
        for index, site in self.sites.items():
            descriptor = site.newest.descriptor
            descriptor.record.push(descriptor.loss(means[index]))

    def finish(self) -> None:
        """Freeze the records."""
        for site in self.sites.values():
            site.newest.descriptor.record.freeze()
