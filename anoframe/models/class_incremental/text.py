"""Text features of classes: of prompts, through CLIP's text tower; or in their place the features of a few images.

`E[c, p]` is text p of class c, a unit vector. A learner needs its mean and variance over p alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from anoframe.errors import AnoframeError, suggest
from anoframe.models.class_incremental.base import DEFECTIVE, NORMAL
from anoframe.models.components.prompts import PromptSet, read_prompts
from anoframe.utils.paths import expand_path

SOURCES = ("prompts", "prototypes")
INDUSTRIAL = "industrial"  # name of the templates of WinCLIP
TEMPLATES = Path(__file__).with_name("templates.yaml")
PROTOTYPE_NOTE = "text features are image prototypes, not CLIP's: the mean of a few training images of each class"


@dataclass(frozen=True)
class TextSettings:
    """Settings of the text features: the section `model.text` of a config.

    Args:
        source: `"prompts"`, `"prototypes"`; None: prompts if the encoder has a text tower, else prototypes.
        templates: for classes without a state: `"industrial"` (WinCLIP's), `"cifar"`, `"imagenet"`,
            `"imagenet_short"`, or the path of a YAML file with a list of texts that contain `{}`.
        prompts: for classes with a state, normal or defective: path of a prompts file; None is WinCLIP's.
        images: training images of each class that are its prototypes.
    """

    source: str | None = None
    templates: str = INDUSTRIAL
    prompts: str | None = None
    images: int = 16

    def __post_init__(self) -> None:
        if self.source is not None and self.source not in SOURCES:
            raise AnoframeError(f"unknown model.text.source {self.source!r}: {suggest(self.source, SOURCES)}")
        if self.images < 1:
            raise AnoframeError(f"model.text.images must be 1 or more, got {self.images}")


class TextSource(ABC):
    """Source of the text features of classes.

    Attributes:
        notes: sentences for every result.
        from_images: whether the features are those of training images.
    """

    notes: Sequence[str] = ()
    from_images = False

    @abstractmethod
    def encode(self, names: Sequence[str]) -> Tensor | None:
        """Return the features `[K, P, d]` of K classes, unit vectors; None if they come from training images."""

    def support_rows(self, rows: Mapping[str, Sequence[int]], task: int) -> list[list[int]]:
        """Choose the images of each class whose features are its prototypes, `[K][P]`.

        Args:
            rows: class -> rows of its new images.
            task: number of the task.
        """
        raise NotImplementedError(f"{type(self).__name__} needs no images")


class Prompts(TextSource):
    """Features of prompts.

    Args:
        encoder: with `encode_text`.
        settings: of the texts.
        seed: chooses prompts where one state has more of them than the other, because each class has equally many.
    """

    def __init__(self, encoder: Any, settings: TextSettings, seed: int = 0):
        self.encoder = encoder
        self._templates = read_templates(settings.templates)
        self._states = read_prompts(settings.prompts)
        self._kept = _kept_prompts(self._states, seed)
        self.notes = self._states.remarks()

    def encode(self, names: Sequence[str]) -> Tensor:
        with torch.no_grad():
            features = [self.encoder.encode_text(self.texts(name)).float() for name in names]
        return torch.stack(features)

    def words(self, name: str) -> str:
        """Return the words for a class in a prompt: its name, and the second normal or the first defective state."""
        category, _, state = name.rpartition("/")
        if not category or state not in (NORMAL, DEFECTIVE):
            return name.replace("_", " ")
        states = self._states.defect[:1] if state == DEFECTIVE else self._states.normal[:2]
        return states[-1].replace("{}", self._states.name_of(category))

    def texts(self, name: str) -> list[str]:
        """Return the prompts of a class."""
        category, _, state = name.rpartition("/")
        if category and state in (NORMAL, DEFECTIVE):
            texts = self._states.prompts(category)[state == DEFECTIVE]
            return [texts[place] for place in self._kept[state == DEFECTIVE]]
        return [template.replace("{}", name.replace("_", " ")) for template in self._templates]


class Prototypes(TextSource):
    """Features of training images in place of texts.

    Args:
        images: per class. A class with fewer images repeats them.
        seed: chooses them.
    """

    notes = (PROTOTYPE_NOTE,)
    from_images = True

    def __init__(self, images: int = 16, seed: int = 0):
        self.images, self.seed = images, seed

    def encode(self, names: Sequence[str]) -> None:
        return None

    def support_rows(self, rows: Mapping[str, Sequence[int]], task: int) -> list[list[int]]:
        chosen = []
        for place, candidates in enumerate(rows.values()):
            order = np.random.default_rng((self.seed, task, place)).permutation(len(candidates))
            chosen.append([candidates[order[i % len(order)]] for i in range(self.images)])
        return chosen


def build_text(settings: TextSettings, encoder: Any, seed: int) -> TextSource:
    """Build the source of the text features.

    Raises:
        AnoframeError: prompts are requested of an encoder without a text tower, or a file cannot be read.
    """
    has_text = bool(getattr(encoder, "has_text", False))
    source = settings.source or ("prompts" if has_text else "prototypes")
    if source == "prototypes":
        return Prototypes(settings.images, seed)
    if not has_text:
        raise AnoframeError(
            f"model.text.source prompts needs a text tower, and the encoder {type(encoder).__name__} has none: "
            "--model.text.source prototypes, or an open_clip backbone"
        )
    return Prompts(encoder, settings, seed)


def read_templates(name: str) -> tuple[str, ...]:
    """Return named templates, or those of a YAML file.

    Raises:
        AnoframeError: unknown name, or a file that is no list of texts with one `{}` each.
    """
    if name == INDUSTRIAL:
        return tuple(f"{template}." for template in read_prompts().templates)
    shipped: dict[str, list[str]] = yaml.safe_load(TEMPLATES.read_text(encoding="utf-8"))
    if name in shipped:
        return tuple(shipped[name])
    path = expand_path(name, "model.text.templates")
    if not path.is_file():
        known = suggest(name, (INDUSTRIAL, *shipped))
        raise AnoframeError(f"model.text.templates {name!r} is no file, and no name of templates: {known}")
    try:
        texts = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AnoframeError(f"model.text.templates {path} is not YAML: {' '.join(str(error).split())}") from error
    if not (isinstance(texts, list) and texts and all(isinstance(text, str) and "{}" in text for text in texts)):
        raise AnoframeError(f"model.text.templates {path} must be a list of texts that contain {{}}, got {texts!r:.60}")
    return tuple(texts)


def _kept_prompts(states: PromptSet, seed: int) -> tuple[list[int], list[int]]:
    """Return positions of the normal and of the defect prompts that are used: equally many, the others are drawn."""
    counts = [len(texts) for texts in states.prompts("object")]
    least = min(counts)
    return tuple(  # type: ignore[return-value]
        sorted(np.random.default_rng((seed, place)).permutation(count)[:least].tolist())
        for place, count in enumerate(counts)
    )
