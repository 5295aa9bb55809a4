"""Anomaly scores from the logits of a classifier. Higher is more anomalous in all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anoframe.errors import AnoframeError
from anoframe.models.class_incremental.base import DEFECTIVE, NORMAL


class StateTable:
    """Positions of the normal and the defective class of each category.

    Args:
        classes: `category/normal` and `category/defective`, in any order.

    Attributes:
        categories: names, in order of appearance.
        normal, defective: `[categories]` int64, positions in `classes`.

    Raises:
        AnoframeError: a category has one state only.
    """

    def __init__(self, classes: Sequence[str]):
        place = {name: position for position, name in enumerate(classes)}
        self.categories = list(dict.fromkeys(name.rpartition("/")[0] for name in classes))
        self.normal, self.defective = (
            torch.tensor([_place(place, f"{category}/{state}") for category in self.categories], dtype=torch.int64)
            for state in (NORMAL, DEFECTIVE)
        )

    def agnostic(self, logits: Tensor) -> Tensor:
        """Compute `logsumexp over defective classes - logsumexp over normal classes`, `[B]`, of logits `[B, C]`."""
        return logits[:, self.defective].logsumexp(-1) - logits[:, self.normal].logsumexp(-1)

    def conditional(self, logits: Tensor, category: Tensor) -> Tensor:
        """Compute the logit of the defective class minus that of the normal one of a known category, `[B]`.

        Args:
            logits: `[B, C]`.
            category: `[B]` int64, positions in `categories`; -1 for a category that was not learned, which gets the
                score of `agnostic`.
        """
        known = category.clamp(min=0).cpu()
        rows = torch.arange(len(logits), device=logits.device)
        difference = logits[rows, self.defective[known]] - logits[rows, self.normal[known]]
        return torch.where(category < 0, self.agnostic(logits), difference)


def energy(logits: Tensor) -> Tensor:
    """Compute the free energy `-logsumexp over classes`, `[B]`, of logits `[B, C]`."""
    return -logits.logsumexp(-1)


def sample_variance(logits: Tensor) -> Tensor:
    """Compute the sum over classes of the variance over samples of the probabilities, `[B]`, of logits `[S, B, C]`.

    The variance divides by S, so it is 0 for a single sample.
    """
    return logits.softmax(-1).var(0, correction=0).sum(-1)


def least_confidence(logits: Tensor) -> Tensor:
    """Compute 1 minus the largest probability, `[B]`, of logits `[B, C]`."""
    return 1 - logits.softmax(-1).amax(-1)


def _place(place: dict[str, int], name: str) -> int:
    if name not in place:
        raise AnoframeError(
            f"there are no training images of the class {name!r}: with model.classes state each category of a task "
            "needs normal and defective ones; model.classes category needs only normal ones"
        )
    return place[name]
