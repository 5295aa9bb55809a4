"""Thresholds without test labels: from normal training images that are held back from a second, smaller fit.

The detector that is reported learns from all images, so its figures are those of its paper. The images that the
threshold is taken from must not have been learned from; a fit without them stands in. It knows a little less, so its
scores, and the threshold, are a little high: fewer false alarms than asked for rather than more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from anoframe.evaluation.decision import Threshold, threshold_of
from anoframe.evaluation.predictions import collect
from anoframe.features.extraction import EncodedSamples
from anoframe.models.base import Detector
from anoframe.tracking.timing import Clock
from anoframe.tracking.tracker import Trackers
from anoframe.training.loop import Training
from anoframe.training.stages import learn, seed_everything
from anoframe.types import Sample

FEWEST = 10  # training images of a category from which on a threshold means something

Encode = Callable[[Detector, Sequence[Sample]], EncodedSamples]


def thresholds(
    make: Callable[[], Detector],
    encode: Encode,
    training: Mapping[str, Sequence[Sample]],
    share: float,
    rate: float,
    size: int,
    how: Training,
) -> dict[str, Threshold | None]:
    """A threshold for each category of a fit; None where it has fewer than ten training images.

    Args:
        make: builds an unfitted detector.
        encode: features of samples. Where several processes learn together each of them finds the thresholds.
        training: category -> its training images.
        share: of each category's images to hold back, in (0, 1).
        rate: of normal images that may be taken for defects.
        size: side of the maps in pixels.
        how: the second fit is trained; its seed also chooses the images.
    """
    held: dict[str, list[Sample]] = {}
    kept: list[Sample] = []
    for category, samples in training.items():
        held[category] = _held_back(samples, share, how.seed)
        kept += [sample for sample in samples if sample not in set(held[category])]
    if not any(held.values()):
        return dict.fromkeys(training)
    seed_everything(how.seed)
    detector = make()
    learn(detector, encode(detector, kept), len(kept), Clock(Trackers()), how)
    return {
        c: _threshold(detector, encode(detector, some), some, rate, size) if some else None for c, some in held.items()
    }


def _held_back(samples: Sequence[Sample], share: float, seed: int) -> list[Sample]:
    if len(samples) < FEWEST:
        return []
    count = min(max(2, round(share * len(samples))), len(samples) - 2)
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))
    return [samples[i] for i in sorted(order[:count].tolist())]


def _threshold(detector: Detector, batches: EncodedSamples, held: list[Sample], rate: float, size: int) -> Threshold:
    found = collect(detector, batches, len(held), size)
    return threshold_of(found.scores.tolist(), found.maps.reshape(len(held), -1).max(1).tolist(), rate)
