"""A fitted detector on disk: `learned.safetensors`, and `detector.json`, which says how to build what they belong to.

The frozen backbone is not stored but named, with the fingerprint of its tensors; loading checks that it is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from anoframe.backbones.weights import fingerprint
from anoframe.data.transforms import Preprocessing
from anoframe.decision import Threshold
from anoframe.detector import Detector
from anoframe.errors import AnoframeError
from anoframe.files import read_json, write_atomic, write_json
from anoframe.models import build_detector

FORMAT = 1
_KEYS = {"format", "model", "backbone", "preprocessing", "seed", "train_images", "learned_sha256"}


@dataclass(frozen=True)
class Checkpoint:
    """A detector and what must be known to use it."""

    detector: Detector
    preprocessing: Preprocessing
    model: dict[str, Any]  # the `model` section of the config
    seed: int
    train_images: dict[str, int]  # category -> normal images it learned from
    thresholds: dict[str, Threshold | None] = field(default_factory=dict)  # category -> where it draws the line

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(self.train_images)

    def description(self) -> dict[str, Any]:
        """What `detector.json` holds."""
        return {
            "format": FORMAT,
            "model": self.model,
            "backbone": _backbone(self.detector),
            "preprocessing": asdict(self.preprocessing),
            "seed": self.seed,
            "train_images": self.train_images,
            "thresholds": {name: one and asdict(one) for name, one in self.thresholds.items()},
            "learned_sha256": fingerprint(self.detector.learned_state()),
        }


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write both files, the description last: a folder with a `detector.json` is whole."""
    state = checkpoint.detector.learned_state()
    learned = save({name: value.contiguous().cpu() for name, value in state.items()})
    write_atomic(folder / "learned.safetensors", learned)
    write_json(folder / "detector.json", checkpoint.description())


def load_checkpoint(folder: Path, device: torch.device) -> Checkpoint:
    """Rebuild a detector; needs neither the training data nor the run it came from.

    Raises:
        AnoframeError: not a checkpoint, damaged, of another format, or learned on other backbone weights.
    """
    description = read_json(folder / "detector.json")
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise AnoframeError(f"{folder / 'detector.json'} is not of checkpoint format {FORMAT}: fit again")
    if missing := sorted(_KEYS - description.keys()):
        raise AnoframeError(f"{folder / 'detector.json'} is damaged, it lacks {', '.join(missing)}: fit again")
    state = _read_state(folder / "learned.safetensors", description["learned_sha256"])
    detector = build_detector(description["model"], description["seed"])
    found, expected = _backbone(detector), description["backbone"]
    if found["sha256"] != expected["sha256"]:
        raise AnoframeError(
            f"{folder}: learned on other weights of {expected['name']} ({expected['weights']}, "
            f"{expected['sha256'][:12]}) than those found now ({found['sha256'][:12]}): restore them, or fit again"
        )
    detector.to(device)
    detector.load_learned_state(state)
    preprocessing = Preprocessing(**description["preprocessing"])
    detector.eval()
    limits = {c: one and Threshold(**one) for c, one in description.get("thresholds", {}).items()}
    known = (description["model"], description["seed"], description["train_images"])
    return Checkpoint(detector, preprocessing, *known, limits)


def find_checkpoints(path: Path) -> dict[str, Path]:
    """The fits under a run folder, its `checkpoint/`, or one fit's folder: name -> folder.

    Raises:
        AnoframeError: there is none.
    """
    for root in (path / "checkpoint", path):
        found = {file.parent.name: file.parent for file in sorted(root.glob("*/detector.json"))}
        if found:
            return found
    if (path / "detector.json").is_file():
        return {path.name: path}
    raise AnoframeError(f"no checkpoint in {path}: give a run folder, or its checkpoint folder")


def holder_of(checkpoints: Sequence[Checkpoint], category: str) -> Checkpoint | None:
    """The detector that learned a category."""
    return next((one for one in checkpoints if category in one.categories), None)


def _read_state(path: Path, sha256: str) -> dict[str, torch.Tensor]:
    try:
        state = load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise AnoframeError(f"{path} is missing or damaged ({error}): fit again") from error
    if fingerprint(state) != sha256:
        raise AnoframeError(
            f"{path} is damaged or was exchanged: its tensors are not those of detector.json; fit again"
        )
    return state


def _backbone(detector: Detector) -> dict[str, Any]:
    backbone: Any = detector.backbone
    description: dict[str, Any] = backbone.describe()
    return description
