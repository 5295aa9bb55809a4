"""Threshold and decision: the single rule that test, predict, export, the report and embedding applications use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anoframe.errors import AnoframeError

_NO_SCORES = (
    "no scores of held-back normal images (none were held back, there were fewer than ten, or an earlier version wrote "
    "it): give the score itself with --threshold.value, or train again with --threshold.held_back 0.2"
)


@dataclass(frozen=True)
class Threshold:
    """Thresholds of a detector, estimated on normal images that were held back from training, or given by the user.

    Attributes:
        image: an image with this score or a higher one is a defect.
        pixel: a pixel with this map value or a higher one is marked; None for a method without maps, or if only an
            image threshold was given.
        false_positive_rate: requested share of normal images at or above each estimated threshold; None if `image` was
            given.
        images: number of held-back images; 0 if `image` was given.
        given: which of `image` and `pixel` were given by the user instead of being estimated.
    """

    image: float
    pixel: float | None
    false_positive_rate: float | None
    images: int
    given: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the values for a JSON file; `given` is left out if nothing was given."""
        tree = asdict(self)
        given = tree.pop("given")
        return tree | ({"given": list(given)} if given else {})


@dataclass(frozen=True)
class HeldBack:
    """Scores of the held-back normal images of a category, in the order of their names.

    Attributes:
        scores: [n], image scores.
        peaks: [n], maximum of each anomaly map; empty for a method without maps.
    """

    scores: Sequence[float]
    peaks: Sequence[float] = ()


@dataclass(frozen=True)
class ThresholdOptions:
    """What a user asks for instead of the stored threshold; None keeps the stored value.

    Args:
        false_positive_rate: estimate image and pixel threshold again for this rate, in (0, 1).
        value: image threshold, in the unit of the scores.
        pixel_value: pixel threshold, in the unit of the anomaly maps.

    Raises:
        AnoframeError: a value is not a finite number, a rate is outside (0, 1), or both a rate and a value are given.
    """

    false_positive_rate: float | None = None
    value: float | None = None
    pixel_value: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and (type(value) not in (int, float) or not math.isfinite(value)):
                raise AnoframeError(f"threshold.{name} takes a number, got {value!r}")
        rate = self.false_positive_rate
        if rate is not None and not 0 < rate < 1:
            raise AnoframeError(
                f"threshold.false_positive_rate must be a share in (0, 1), got {rate!r}: for example 0.01"
            )
        if rate is not None and self.value is not None:
            raise AnoframeError(
                "threshold.value and threshold.false_positive_rate both set the threshold of images: give one of them"
            )

    @property
    def asked(self) -> dict[str, float]:
        """The options that are given, by name; empty if there are none."""
        return {name: float(value) for name, value in asdict(self).items() if value is not None}


def is_defect(scores: ArrayLike, limit: float) -> NDArray[np.bool_]:
    """Decide for each image score whether it is a defect, with the image threshold `limit`."""
    return np.asarray(np.asarray(scores) >= np.float32(limit))


def choose_threshold(
    stored: Threshold | None, held_back: HeldBack | None, options: ThresholdOptions, where: str
) -> Threshold | None:
    """Return the threshold that a user asks for; without options the stored one.

    Args:
        stored: of the checkpoint.
        held_back: scores of the checkpoint, which another rate is estimated on.
        options: what the user asks for.
        where: checkpoint and category, for the error.

    Raises:
        AnoframeError: a rate is asked for and the checkpoint has no scores of held-back images; or only a pixel
            threshold is given for a checkpoint without thresholds.
    """
    threshold = stored
    if options.false_positive_rate is not None:
        if held_back is None or not held_back.scores:
            raise AnoframeError(f"{where} has {_NO_SCORES}")
        threshold = estimate_threshold(held_back.scores, held_back.peaks, options.false_positive_rate)
    if options.value is not None:
        pixel, kept = (threshold.pixel, threshold.given) if threshold else (None, ())
        threshold = Threshold(float(options.value), pixel, None, 0, _names("image", kept))
    if options.pixel_value is not None:
        if threshold is None:
            raise AnoframeError(f"{where} has no threshold for images, which decides: add --threshold.value")
        threshold = replace(threshold, pixel=float(options.pixel_value), given=_names("pixel", threshold.given))
    return threshold


def _names(name: str, others: Sequence[str]) -> tuple[str, ...]:
    return tuple(each for each in ("image", "pixel") if each == name or each in others)


def rate_remark(threshold: Threshold | None) -> str:
    """Say which rate the held-back images support, if it is higher than the requested one; else an empty string.

    With `n` held-back images a new normal image exceeds every threshold at or below their largest score with a
    probability of `1 / (n + 1)` (see `upper_bound`), so no lower rate is guaranteed.
    """
    if threshold is None or threshold.false_positive_rate is None or not threshold.images:
        return ""
    rate, images = threshold.false_positive_rate, threshold.images
    if (images + 1) * rate >= 1:
        return ""
    return (
        f"{images} held-back images guarantee no false-alarm rate below {lowest_rate(images):.2g}, and {rate:g} was "
        "asked for: the threshold is just above their largest score"
    )


def lowest_rate(images: int) -> float:
    """The lowest false-positive rate that a number of held-back images can guarantee.

    >>> lowest_rate(99)
    0.01
    """
    return 1 / (images + 1)


def estimate_threshold(scores: Sequence[float], peaks: Sequence[float], rate: float) -> Threshold:
    """Estimate the thresholds from held-back normal images.

    Args:
        scores: [n], image scores.
        peaks: [n], maximum of each anomaly map; empty for a method without maps.
        rate: accepted false-positive rate, in (0, 1).
    """
    return Threshold(upper_bound(scores, rate), upper_bound(peaks, rate) if peaks else None, rate, len(scores))


def upper_bound(values: Sequence[float], rate: float) -> float:
    """Compute a bound that a new value of the same distribution stays below with probability `1 - rate` or more.

    It is just above the `ceil((n + 1)(1 - rate))`-th smallest of the `n` values (split conformal prediction; Vovk et
    al., 2005). If `n` is too small for the rate, it is just above the largest value, and a new value exceeds it with
    probability `1 / (n + 1)`.

    >>> upper_bound([3.0, 1.0, 2.0, 4.0], 0.5) > 3.0
    True
    """
    rank = math.ceil((len(values) + 1) * (1 - rate) - 1e-9)
    value = np.float32(sorted(values)[min(max(rank, 1), len(values)) - 1])
    return float(np.nextafter(value, np.float32(np.inf)))
