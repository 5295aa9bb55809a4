"""The interface of all generators of synthetic anomalies, their result, and the random generator of an image."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anoframe.errors import AnoframeError

Pixels = NDArray[np.uint8]  # [H, W, 3], RGB
Mask = NDArray[np.bool_]  # [H, W]
Field = NDArray[np.floating[Any]]  # [H, W] or [H, W, C]
Choice = TypeVar("Choice", str, int)

_NEGATIVE_ATTEMPTS = 20  # a generator that has changed nothing so often does not fit the image


@dataclass(frozen=True)
class Synthetic:
    """Result of a generator.

    Outside of the mask, `image` equals `base` to the bit.
    """

    image: Pixels  # edited image
    mask: Mask  # True where a defect was made
    base: Pixels  # image before the edit; differs from the input only if the generator also rotates normal images
    label: NDArray[np.float32] | None = None  # [H, W] in [0, 1], 0 outside of the mask; None: the mask is the label
    meta: dict[str, Any] = field(default_factory=dict)  # name of the generator, drawn parameters, boxes, sources

    @property
    def has_anomaly(self) -> bool:
        """Return whether the mask marks any pixel; an edit that was attempted without effect is no anomaly."""
        return bool(self.mask.any())


@dataclass(frozen=True)
class Context:
    """What a generator may use besides the image.

    Args:
        category: product or texture class, which selects the settings of some generators.
        normals: normal training images of the same category, uint8 [H, W, 3]; see `sources.NormalImages`.
        index: position of the edited image in `normals`, which is then no source of its own edit.
    """

    category: str = ""
    normals: Sequence[Pixels] = ()
    index: int | None = None

    def draw_other(self, rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Pixels, int]:
        """Draw another training image, resized to `shape` [H, W, ...] if it differs, and return it with its position.

        Raises:
            AnoframeError: there is no other image.
        """
        is_member = self.index is not None and 0 <= self.index < len(self.normals)
        others = len(self.normals) - is_member
        if others < 1:
            raise AnoframeError(
                f"this generator takes parts of other training images, got {len(self.normals)} image(s) in total; "
                "give at least two normal images of the category, or use cutpaste, cdo or smooth_blend"
            )
        position = int(rng.integers(others))
        position += is_member and position >= (self.index or 0)
        other = np.asarray(self.normals[position])
        check_image(other, "another training image")
        return resize_pixels(other, shape[0], shape[1]), position


NO_CONTEXT = Context()


class Generator(ABC):
    """A generator of synthetic anomalies: a pure function of image, random generator and context.

    Args:
        p_anomaly: probability that an edit is attempted; otherwise the image is returned with an empty mask.

    Attributes:
        name: of the generator in a config.
        min_side: smallest accepted side of an image in pixels.
    """

    name: ClassVar[str]
    min_side: ClassVar[int] = 16

    def __init__(self, p_anomaly: float = 1.0) -> None:
        self.p_anomaly = check_probability(self.name, "p_anomaly", p_anomaly)
        self._must_change = False

    def generate(self, image: Pixels, rng: np.random.Generator, context: Context = NO_CONTEXT) -> Synthetic:
        """Edit a copy of an image.

        Args:
            image: normal training image, uint8 [H, W, 3]; not changed.
            rng: the only source of randomness; see `item_rng`.
            context: category and other training images.

        Raises:
            AnoframeError: the image has another type or is too small, or the generator needs other training images.
        """
        check_image(image, f"{self.name}: the image", self.min_side)
        base = self.augment_base(image.copy(), rng)
        if rng.random() >= self.p_anomaly:
            empty = np.zeros(base.shape[:2], bool)
            return Synthetic(base.copy(), empty, base, self._empty_label(base), {"generator": self.name})
        for _ in range(_NEGATIVE_ATTEMPTS if self._must_change else 1):
            result = self.edit(base, rng, context)
            if result.has_anomaly and not np.array_equal(result.image, base):
                return result
        if self._must_change:
            raise AnoframeError(
                f"{self.name} changed nothing in {_NEGATIVE_ATTEMPTS} attempts, but a negative must differ from its "
                f"image{f' (category {context.category})' if context.category else ''}; use another generator"
            )
        return result

    def with_probability(self, p_anomaly: float) -> Generator:
        """Return a copy with another probability of an edit."""
        generator = copy.copy(self)
        generator.p_anomaly = check_probability(self.name, "p_anomaly", p_anomaly)
        return generator

    def as_negative(self) -> Generator:
        """Return a copy that always edits, for contrastive learning: an attempt without effect is repeated.

        After 20 attempts without effect, `generate` of the copy raises AnoframeError.
        """
        generator = self.with_probability(1.0)
        generator._must_change = True
        return generator

    def notes(self) -> Sequence[str]:
        """State what a user should know about the settings, to be logged once."""
        return ()

    def augment_base(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Augment the image before it is edited or returned as normal; the default returns it."""
        return image

    @abstractmethod
    def edit(self, image: Pixels, rng: np.random.Generator, context: Context) -> Synthetic:
        """Make a defect; `image` must not be changed in place."""

    def _empty_label(self, image: Pixels) -> NDArray[np.float32] | None:
        """Return the soft label of an image without defect; None for a generator with binary labels."""
        return None


def item_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the random generator of an image in an epoch: it depends on these numbers and on nothing else.

    Args:
        seed: of the run, at least 0.
        epoch: 0 to 2**32 - 1.
        index: of the image in the dataset, 0 to 2**32 - 1.
    """
    for name, value, limit in (("seed", seed, None), ("epoch", epoch, 2**32), ("index", index, 2**32)):
        if value < 0 or (limit is not None and value >= limit):
            raise AnoframeError(f"{name} of a synthetic image must be from 0 to {(limit or 2**64) - 1}, got {value}")
    return np.random.default_rng(np.random.SeedSequence([epoch, index, seed]))


def check_image(image: Pixels, what: str, min_side: int = 1) -> None:
    """Check type and size of an image.

    Raises:
        AnoframeError: not uint8 [H, W, 3], or a side is shorter than `min_side` pixels.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise AnoframeError(f"{what} must be a uint8 array [H, W, 3], got {got}; convert it to RGB")
    if min(image.shape[:2]) < min_side:
        raise AnoframeError(
            f"{what} has {image.shape[1]} x {image.shape[0]} pixels, but each side needs at least {min_side}; "
            "resize to a larger size"
        )


def check_probability(where: str, name: str, value: float) -> float:
    """Return a probability after checking that it is in [0, 1]."""
    return check_range(where, name, value, 0.0, 1.0)


def check_range(where: str, name: str, value: float, low: float, high: float) -> float:
    """Return a number after checking that it is in [low, high]."""
    if not low <= value <= high:
        raise AnoframeError(f"{where}: {name} must be from {low:g} to {high:g}, got {value!r}")
    return value


def check_interval(where: str, name: str, value: Sequence[float], low: float, high: float) -> tuple[float, float]:
    """Return an interval (smallest, largest) after checking that it is ordered and lies in [low, high]."""
    if len(value) != 2 or not low <= value[0] <= value[1] <= high:
        raise AnoframeError(f"{where}: {name} must be two ordered numbers from {low:g} to {high:g}, got {list(value)}")
    return float(value[0]), float(value[1])


def check_choice(where: str, name: str, value: Choice, allowed: Sequence[Choice]) -> Choice:
    """Return a value after checking that it is one of `allowed`."""
    if value not in allowed:
        raise AnoframeError(f"{where}: {name} must be one of {', '.join(map(str, allowed))}, got {value!r}")
    return value


def resize_pixels(image: Pixels, height: int, width: int) -> Pixels:
    """Resize an image with bilinear interpolation and antialiasing; the same array if the size is already right."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
