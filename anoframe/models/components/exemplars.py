"""Exemplar memory: training images of earlier tasks that later tasks see again.

After a task a few images of each class are selected from its new images and the exemplars of earlier tasks; the
exemplars of an earlier class are therefore always a subset of the previous ones. Selectors give each image a value or
an order, per class:

- `random`: drawn by a seeded generator;
- `first`: the first images in the order of the index, which the code of CLAP4CLIP calls random;
- `herding`: iCaRL (Rebuffi et al., CVPR 2017, algorithm 4), on unit-normed image features;
- `entropy`: entropy of the mean softmax over Monte Carlo samples, highest first;
- `distance`: logit of the image's own class, averaged over samples, lowest first;
- `variance`: variance of the softmax over samples, summed over classes, lowest first;
- `variance_entropy`: geometric mean of variance and entropy, lowest first;
- `energy`: logsumexp of the logits over classes, averaged over samples, lowest first.

The code of CLAP4CLIP reads its logits `[batch][sample][image]` as `[image, sample, class]`, and its variance_entropy
takes the root of negative numbers; here the logits are `[S, N, C]` and the entropy is positive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from anoframe.errors import AnoframeError, suggest
from anoframe.models.learner import Features, Observation, TaskData
from anoframe.types import Sample

STAGE = "exemplars"  # name of the observation, and of its time
_ORDERED = ("random", "first", "herding")  # selectors without a value per image
_HIGHEST_FIRST = {"entropy": True, "distance": False, "variance": False, "variance_entropy": False, "energy": False}
SELECTORS = (*_ORDERED, *_HIGHEST_FIRST)
_DIRECTIONS = {"default": None, "informative": True, "representative": False}
DIRECTIONS = tuple(_DIRECTIONS)
_SEED = 0x65786D70  # separates the draws of exemplars from all others of a seed


@dataclass(frozen=True)
class MemorySettings:
    """Size of the exemplar memory, and how it is selected.

    Attributes:
        total: exemplars in all, shared equally by the classes seen; None: `per_class` counts.
        per_class: exemplars of each class, 0 for no memory; not used with `total`.
        selector: one of `SELECTORS`.
        direction: which values of a selector come first: `informative` the highest, `representative` the lowest,
            `default` those of the reference (see the module). High values of `distance` and `energy` belong to images
            that the classifier is sure of, high values of the others to images that it is unsure of.

    Raises:
        AnoframeError: a value out of range, an unknown name, or a direction for a selector without values.
    """

    total: int | None = None
    per_class: int = 20
    selector: str = "random"
    direction: str = "default"

    def __post_init__(self) -> None:
        if self.total is not None and self.total < 1:
            raise AnoframeError(f"memory.total must be 1 or more, or None for memory.per_class, got {self.total}")
        if self.per_class < 0:
            raise AnoframeError(f"memory.per_class must be 0 or more, got {self.per_class}; 0 is no memory")
        if self.selector not in SELECTORS:
            raise AnoframeError(f"unknown memory.selector {self.selector!r}: {suggest(self.selector, SELECTORS)}")
        if self.direction not in DIRECTIONS:
            raise AnoframeError(f"unknown memory.direction {self.direction!r}: {suggest(self.direction, DIRECTIONS)}")
        if self.selector in _ORDERED and self.direction != "default":
            raise AnoframeError(
                f"memory.direction {self.direction} needs a selector that gives each image a value, of "
                f"{', '.join(_HIGHEST_FIRST)}; {self.selector} has none: --memory.direction default"
            )

    @property
    def is_empty(self) -> bool:
        """Whether no exemplar is ever kept."""
        return self.total is None and self.per_class == 0

    @property
    def needs_logits(self) -> bool:
        """Whether the selector needs logits, so a classifier."""
        return self.selector in _HIGHEST_FIRST


class ExemplarOwner(Protocol):
    """What selects exemplars: a `ClassIncrementalLearner`, or the strategy `replay`."""

    exemplar_rows: Tensor

    @property
    def classes(self) -> Sequence[str]:
        """Classes seen so far, those of the current task included."""

    def logits(self, features: Tensor) -> Tensor:
        """Compute logits `[S, B, C]` of features `[B, D]`; only called for a selector that needs them."""


def quota(settings: MemorySettings, num_classes: int) -> int:
    """Return the number of exemplars of each class after `num_classes` classes.

    >>> [quota(MemorySettings(total=2000), classes) for classes in (10, 20, 30, 40)]
    [200, 100, 66, 50]

    Raises:
        AnoframeError: `total` has no room for one exemplar per class.
    """
    if settings.total is None:
        return settings.per_class
    if settings.total < num_classes:
        raise AnoframeError(
            f"memory.total {settings.total} has no room for one exemplar of each of {num_classes} classes: raise it, "
            "or use memory.per_class"
        )
    return settings.total // num_classes


def select(
    settings: MemorySettings,
    features: Tensor,
    logits: Tensor | None,
    labels: Tensor,
    num_classes: int,
    generator: torch.Generator,
) -> list[int]:
    """Select the exemplars of all classes; a class with fewer images than its quota keeps them all.

    Args:
        features: `[N, D]`.
        logits: `[S, N, C]`, sample axis first; None for a selector that does not need them.
        labels: `[N]` int64, position of the class of each image in the axis C.
        num_classes: classes seen so far.
        generator: of the selector `random`.

    Returns:
        Rows of `features`, grouped by class and ascending within a class.
    """
    count = quota(settings, num_classes)
    values = selector_values(settings.selector, logits, labels) if settings.needs_logits else None
    rows: list[int] = []
    for label in range(num_classes):
        own = (labels == label).nonzero().flatten()
        chosen = _select_class(settings, features, values, own, min(count, len(own)), generator)
        rows += sorted(chosen)
    return rows


def selector_values(selector: str, logits: Tensor | None, labels: Tensor) -> Tensor:
    """Compute the value of each image, `[N]`, from logits `[S, N, C]`; see the module for the definitions."""
    if logits is None:
        raise AnoframeError(f"memory.selector {selector} needs a classifier's logits: use random, first or herding")
    if logits.ndim != 3 or logits.shape[1] != len(labels):
        raise AnoframeError(f"logits of exemplars must be [S, {len(labels)}, C], got {list(logits.shape)}")
    if selector == "energy":
        return logits.logsumexp(2).mean(0)
    if selector == "distance":
        return logits.mean(0).gather(1, labels[:, None])[:, 0]
    probabilities = logits.softmax(2)
    mean = probabilities.mean(0)
    entropy = -torch.xlogy(mean, mean).sum(1)
    if selector == "entropy":
        return entropy
    variance = probabilities.var(0, correction=0).sum(1)
    return variance if selector == "variance" else (variance * entropy).sqrt()


def herd(features: Tensor, count: int) -> list[int]:
    """Select rows of `[N, D]` greedily, so that the mean of the chosen ones stays closest to the mean of all.

    Raises:
        AnoframeError: `count` is larger than N.
    """
    _check_count(count, len(features))
    unit = normalize(features.double(), dim=1)
    mean, total = unit.mean(0), torch.zeros_like(unit[0])
    taken = torch.zeros(len(unit), dtype=torch.bool, device=unit.device)
    chosen: list[int] = []
    for size in range(1, count + 1):
        distance = (mean - (total + unit) / size).norm(dim=1).masked_fill(taken, float("inf"))
        row = int(distance.argmin())
        chosen.append(row)
        taken[row] = True
        total = total + unit[row]
    return chosen


def rank(values: Tensor, count: int, highest_first: bool) -> list[int]:
    """Return the positions of the `count` highest or lowest values `[N]`; of equal values the first ones.

    Raises:
        AnoframeError: `count` is larger than N.
    """
    _check_count(count, len(values))
    order: list[int] = values.argsort(descending=highest_first, stable=True)[:count].tolist()
    return order


def exemplar_stage(
    owner: ExemplarOwner, settings: MemorySettings, data: TaskData, class_of: Callable[[Sample], str], seed: int
) -> Observation:
    """Return the training stage that selects the exemplars of a task and writes their rows to `owner.exemplar_rows`.

    Args:
        owner: whose `classes` contain the class of every image of the task.
        settings: of the memory.
        data: training images of the task.
        class_of: class of a training image.
        seed: of the fit; the draw also depends on the number of classes.
    """
    return _Selection(owner, settings, data, class_of, seed).stage()


class _Selection:
    """Collects features and logits of a task's images, then selects. Memory: both, for all images."""

    def __init__(
        self,
        owner: ExemplarOwner,
        settings: MemorySettings,
        data: TaskData,
        class_of: Callable[[Sample], str],
        seed: int,
    ):
        self._owner, self._settings, self._data, self._class_of, self._seed = owner, settings, data, class_of, seed
        self._features: list[Tensor] = []
        self._logits: list[Tensor] = []

    def stage(self) -> Observation:
        """Return the observation; its rows are all images of the task, in order."""
        rows = range(len(self._data.samples))
        return Observation(STAGE, self._begin, self._observe, self._finish, rows=rows)

    def _begin(self, images: int) -> None:
        self._features, self._logits = [], []

    def _observe(self, features: Features, samples: Sequence[Sample]) -> bool:
        if self._settings.is_empty:
            return True
        self._features.append(feature_vectors(features).cpu())
        if self._settings.needs_logits:
            self._logits.append(self._owner.logits(features).cpu())
        return self._settings.selector in ("random", "first")  # these look at no feature

    def _finish(self) -> None:
        rows = [] if self._settings.is_empty else self._select()
        device = self._owner.exemplar_rows.device
        self._owner.exemplar_rows = torch.tensor(rows, dtype=torch.int64, device=device)
        self._features, self._logits = [], []

    def _select(self) -> list[int]:
        position = {name: place for place, name in enumerate(self._owner.classes)}
        labels = torch.tensor([position[self._class_of(sample)] for sample in self._data.samples])
        logits = torch.cat(self._logits, 1) if self._logits else None
        state = np.random.SeedSequence((self._seed, len(position), _SEED)).generate_state(1)
        generator = torch.Generator().manual_seed(int(state[0]))
        return select(self._settings, torch.cat(self._features), logits, labels, len(position), generator)


def feature_vectors(features: Features) -> Tensor:
    """Return one vector per image, `[B, D]`: feature maps are averaged over their locations, levels are joined.

    >>> feature_vectors([torch.ones(2, 3, 4, 4), torch.ones(2, 5)]).shape
    torch.Size([2, 8])
    """
    if isinstance(features, Tensor):
        return features.flatten(2).mean(2) if features.ndim > 2 else features
    levels = features.values() if isinstance(features, dict) else features
    return torch.cat([feature_vectors(level) for level in levels], 1)


def _select_class(
    settings: MemorySettings,
    features: Tensor,
    values: Tensor | None,
    own: Tensor,
    count: int,
    generator: torch.Generator,
) -> list[int]:
    """Select `count` of the rows `own` of a class."""
    if settings.selector == "random":
        chosen = torch.randperm(len(own), generator=generator)[:count].tolist()
    elif settings.selector == "first":
        chosen = list(range(count))
    elif settings.selector == "herding":
        chosen = herd(features[own], count)
    else:
        assert values is not None
        highest_first = _DIRECTIONS[settings.direction]
        chosen = rank(values[own], count, _HIGHEST_FIRST[settings.selector] if highest_first is None else highest_first)
    return [int(own[place]) for place in chosen]


def _check_count(count: int, available: int) -> None:
    if count > available:
        raise AnoframeError(f"{count} exemplars of a class with {available} images are asked for: lower the number")
