"""Thresholds without test labels, from normal training images that are held out of a second, smaller fit.

The reported detector is trained on all images, so its metrics are comparable with the paper's. The threshold must be
estimated on images that were not trained on; a second fit without them stands in for the reported detector. It has seen
fewer images, so its scores, and with them the threshold, are slightly high: there are fewer false alarms than
requested rather than more.

A low rate needs many scores: of 57 held-back images, one odd photograph sets the threshold for 1 %. Several second fits
(`threshold.fits`), each without another part of the images, give as many scores as there are training images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Protocol

import torch

from anoframe.evaluation.decision import HeldBack, Threshold, ThresholdOptions, choose_threshold
from anoframe.evaluation.predictions import collect
from anoframe.features.extraction import FeatureBatch
from anoframe.models.base import Detector
from anoframe.tracking.timing import StageTimer
from anoframe.tracking.tracker import Trackers
from anoframe.training.context import FitContext, empty_curves
from anoframe.training.seeding import seed_everything
from anoframe.training.stages import fit_learner
from anoframe.training.views import TrainingImages
from anoframe.types import Sample
from anoframe.utils.progress import progress

MIN_IMAGES = 10  # normal training images of a category below which a threshold is meaningless

Extract = Callable[[Detector, Sequence[Sample]], Iterable[FeatureBatch]]


class HasThresholds(Protocol):
    """What has thresholds and scores of held-back images: a checkpoint, or the result of `read_thresholds`."""

    @property
    def thresholds(self) -> Mapping[str, Threshold | None]: ...

    @property
    def held_back(self) -> Mapping[str, HeldBack]: ...


def resolve_threshold(checkpoint: HasThresholds, category: str, options: ThresholdOptions) -> Threshold | None:
    """Return the threshold of a category that a user asks for; without options the stored one, None if there is none.

    Test, predict, export and `--mode threshold` all choose their threshold here.

    Raises:
        AnoframeError: as `choose_threshold`.
    """
    where = f"the checkpoint of category {category!r}"
    return choose_threshold(checkpoint.thresholds.get(category), checkpoint.held_back.get(category), options, where)


def score_held_back(
    build: Callable[[], Detector],
    extract: Extract,
    read: Callable[[Sequence[Sample]], TrainingImages | None],
    training: Mapping[str, Sequence[Sample]],
    share: float,
    size: int | tuple[int, int],
    context: FitContext,
    fits: int = 1,
) -> dict[str, HeldBack | None]:
    """Score held-back images of each category of a fit; None for a category with fewer than ten normal images.

    Only normal images are held out; the defects that a supervised method learns from train the second fit too.

    Args:
        build: builds an unfitted detector.
        extract: returns the features of samples. Of several processes each one scores all images.
        read: returns the images of samples, for training stages that draw views of them.
        training: category -> its training images.
        share: of each category's images to hold out in each fit, in (0, 1).
        size: of the images and their maps in pixels: one number, or height and width.
        context: of the second fit; its seed also selects the images.
        fits: number of second fits, `fits * share <= 1`. Each holds out other images, and the scores of all are joined.
    """
    parts = {category: _hold_out(samples, share, context.seed, fits) for category, samples in training.items()}
    if not any(parts.values()):
        return dict.fromkeys(training)
    scores: dict[str, list[HeldBack]] = {category: [] for category in training}
    for number in progress(range(fits), "threshold", unit="fit") if fits > 1 else range(fits):
        held_out = {category: parts[category][number] for category in training if number < len(parts[category])}
        if not held_out:
            break
        own_context = replace(context, curves=empty_curves())
        detector = _fit_without(build, extract, read, training, held_out, own_context)
        for category, samples in held_out.items():
            scores[category].append(_score(detector, extract(detector, samples), len(samples), size))
    return {category: _join(each) if each else None for category, each in scores.items()}


def _fit_without(
    build: Callable[[], Detector],
    extract: Extract,
    read: Callable[[Sequence[Sample]], TrainingImages | None],
    training: Mapping[str, Sequence[Sample]],
    held_out: Mapping[str, Sequence[Sample]],
    context: FitContext,
) -> Detector:
    """Train a detector on all training images but those that are held out; arguments as for `score_held_back`."""
    rest: list[Sample] = []
    for category, samples in training.items():
        excluded = set(held_out.get(category, ()))
        rest += [sample for sample in samples if sample not in excluded]
    seed_everything(context.seed)
    detector = build()
    images = read(rest)
    count = len(rest) if images is None else len(images)  # with tiles there are more images than samples
    fit_learner(detector, extract(detector, rest), count, StageTimer(Trackers()), context, images=images)
    return detector


def _hold_out(samples: Sequence[Sample], share: float, seed: int, fits: int = 1) -> list[list[Sample]]:
    """Select normal images at random for each fit, without overlap: at least two, and two are left to train on.

    If the shares of all fits add up to 1, the parts cover all images and differ by at most one image in size.

    Returns:
        One list per fit, in the order of the index; fewer lists if there are not enough images, and none for fewer
        than ten.
    """
    normal = [sample for sample in samples if not sample.is_defect]
    if len(normal) < MIN_IMAGES:
        return []
    count = min(max(2, round(share * len(normal))), len(normal) - 2)
    order = torch.randperm(len(normal), generator=torch.Generator().manual_seed(seed)).tolist()
    step = len(normal) / fits if fits > 1 and fits * share > 1 - 1e-6 else count
    ends = [min(round(number * step), len(normal)) for number in range(fits + 1)]
    parts = [sorted(order[start:end]) for start, end in pairwise(ends)]
    return [[normal[i] for i in part] for part in parts if part]


def _score(
    detector: Detector, batches: Iterable[FeatureBatch], num_images: int, size: int | tuple[int, int]
) -> HeldBack:
    predictions = collect(detector, batches, num_images, size)
    peaks = () if predictions.maps is None else tuple(predictions.maps.reshape(num_images, -1).max(1).tolist())
    return HeldBack(tuple(predictions.scores.tolist()), peaks)


def _join(parts: Sequence[HeldBack]) -> HeldBack:
    """Join the scores of several fits."""
    return HeldBack(
        tuple(score for part in parts for score in part.scores), tuple(peak for part in parts for peak in part.peaks)
    )
