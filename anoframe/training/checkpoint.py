"""A fitted detector on disk: `learned.safetensors`, and `detector.json`, which says how to build what they belong to.

The frozen backbone is not stored but named, with the fingerprint of its tensors; loading checks that it is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from anoframe.backbones.weights import PICKLE, fingerprint, is_pickle
from anoframe.data.transforms import Preprocessing
from anoframe.errors import AnoframeError, suggest
from anoframe.evaluation.decision import Threshold
from anoframe.models.base import Detector
from anoframe.models.factory import build_detector
from anoframe.registry import check_arguments
from anoframe.utils.files import plain_name, read_json, write_atomic, write_json
from anoframe.utils.type_check import matches_type, type_words

FORMAT = 1
_KEYS = {
    "model": dict[str, Any],
    "backbone": dict[str, Any],
    "preprocessing": dict[str, Any],
    "seed": int,
    "train_images": dict[str, int],
    "learned_sha256": str,
}
_THRESHOLDS = dict[str, dict[str, float | int] | None]


@dataclass(frozen=True)
class Checkpoint:
    """A detector and what must be known to use it."""

    detector: Detector
    preprocessing: Preprocessing
    model: dict[str, Any]  # the `model` section of the config
    seed: int
    train_images: dict[str, int]  # category -> normal images it learned from
    thresholds: dict[str, Threshold | None] = field(default_factory=dict)  # category -> where it draws the line
    training: dict[str, Any] = field(default_factory=dict)  # what results say of how it was trained, where it was

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(self.train_images)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """Write both files, the description last: a folder with a `detector.json` is whole. Returns the description."""
    state = checkpoint.detector.learned_state()
    learned = save({name: value.contiguous().cpu() for name, value in state.items()})
    write_atomic(folder / "learned.safetensors", learned)
    description = {
        "format": FORMAT,
        "model": checkpoint.model,
        "backbone": _backbone(checkpoint.detector),
        "preprocessing": asdict(checkpoint.preprocessing),
        "seed": checkpoint.seed,
        "train_images": checkpoint.train_images,
        "thresholds": {name: one and asdict(one) for name, one in checkpoint.thresholds.items()},
        "training": checkpoint.training,
        "learned_sha256": fingerprint(state),
    }
    write_json(folder / "detector.json", description)
    return description


def load_checkpoint(folder: Path, device: torch.device) -> Checkpoint:
    """Rebuild a detector; needs neither the training data nor the run it came from.

    Raises:
        AnoframeError: not a checkpoint, damaged, of another format, or learned on other backbone weights.
    """
    path = folder / "detector.json"
    description = _description(path)
    state = _read_state(folder / "learned.safetensors", description["learned_sha256"])
    with _told_of(path):
        check_arguments(Preprocessing, description["preprocessing"], "preprocessing")
        preprocessing = Preprocessing(**description["preprocessing"])
        detector = build_detector(description["model"], description["seed"])
    found, expected = _backbone(detector), description["backbone"]
    if found["sha256"] != expected["sha256"]:
        raise AnoframeError(
            f"{folder}: learned on other weights of {expected['name']} ({expected['weights']}, "
            f"{expected['sha256'][:12]}) than those found now ({found['sha256'][:12]}): restore them, or fit again"
        )
    detector.to(device)
    with _told_of(path):
        detector.load_learned_state(state)
    detector.eval()
    with _told_of(path):
        limits = {category: _threshold(one) for category, one in description.get("thresholds", {}).items()}
    known = (description["model"], description["seed"], description["train_images"])
    return Checkpoint(detector, preprocessing, *known, limits, description.get("training", {}))


def find_checkpoints(path: Path) -> dict[str, Path]:
    """The fits under a run folder, its `checkpoint/`, or one fit's folder: name -> folder.

    One whose categories another has learned too, and more, is left out: of a stream of tasks the newest is given.

    Raises:
        AnoframeError: there is none, or a description is damaged.
    """
    for root in (path / "checkpoint", path):
        found = {file.parent.name: file.parent for file in sorted(root.glob("*/detector.json"))}
        learned = {name: set(learned_categories(folder)) for name, folder in found.items()}
        if found:
            return {name: found[name] for name in found if not any(learned[name] < more for more in learned.values())}
    if (path / "detector.json").is_file():
        return {path.name: path}
    raise AnoframeError(f"no checkpoint in {path}: give a run folder, or its checkpoint folder")


def find_checkpoint(path: Path, category: str | None) -> Path:
    """The fit that learned a category, without loading any; None asks for the only fit that there is.

    Raises:
        AnoframeError: no checkpoint, none of that category, or several and no category to choose by.
    """
    learned = {folder: learned_categories(folder) for folder in find_checkpoints(path).values()}
    if category is None and len(learned) == 1:
        return next(iter(learned))
    names = [name for categories in learned.values() for name in categories]
    if category is None:
        raise AnoframeError(f"{path} has a detector a category, say which: {', '.join(names)} (--cls_names)")
    for folder, categories in learned.items():
        if category in categories:
            return folder
    raise AnoframeError(f"{path} has not learned category {category!r}: {suggest(category, names)}")


def learned_categories(folder: Path) -> tuple[str, ...]:
    """What the detector of a fit learned, as its description says."""
    return tuple(_description(folder / "detector.json")["train_images"])


def holder_of(checkpoints: Sequence[Checkpoint], category: str) -> Checkpoint | None:
    """The detector that learned a category."""
    return next((one for one in checkpoints if category in one.categories), None)


def _threshold(values: dict[str, Any] | None) -> Threshold | None:
    if values is None:
        return None
    check_arguments(Threshold, values, "threshold")
    return Threshold(**values)


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """What is wrong with values in a file is told with the file's name."""
    try:
        yield
    except AnoframeError as error:
        raise AnoframeError(f"{path}: {error}") from error


def _description(path: Path) -> dict[str, Any]:
    """What a `detector.json` says, each value of the type that it must have."""
    description = read_json(path)
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise AnoframeError(f"{path} is not of checkpoint format {FORMAT}: fit again")
    if missing := sorted(_KEYS.keys() - description.keys()):
        raise AnoframeError(f"{path} is damaged, it lacks {', '.join(missing)}: fit again")
    for key, kind in _KEYS.items():
        _check_kind(path, key, description[key], kind)
    _check_kind(path, "thresholds", description.get("thresholds", {}), _THRESHOLDS)
    _check_kind(path, "training", description.get("training", {}), dict[str, dict[str, Any] | str])
    for key in ("name", "weights", "sha256"):
        _check_kind(path, f"backbone.{key}", description["backbone"].get(key), str)
    with _told_of(path):
        for category in description["train_images"]:
            plain_name(category, "category")
    return description


def _check_kind(path: Path, key: str, value: object, kind: Any) -> None:
    if not matches_type(value, kind):
        raise AnoframeError(f"{path} is damaged, its {key} takes {type_words(kind)}, got {value!r}: fit again")


def _read_state(path: Path, sha256: str) -> dict[str, torch.Tensor]:
    try:
        data = path.read_bytes()
        state = load(data)
    except OSError as error:
        raise AnoframeError(f"{path} is missing or damaged ({error.strerror}): fit again") from error
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:  # a head may lie in many ways
        if is_pickle(data):
            raise AnoframeError(f"{path}: {PICKLE}, or fit again") from error
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
