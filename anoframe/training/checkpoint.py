"""Checkpoints: a trained detector on disk, in `learned.safetensors` (tensors) and `detector.json` (how to build it).

Beside them, `held_back.json` has the scores of the held-back images that thresholds are estimated on.

The frozen backbone is not stored. The checkpoint holds its name and the fingerprint of its tensors, which are compared
when the checkpoint is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from anoframe.data.ignored import IgnoredRegion
from anoframe.data.preprocessing import Preprocessing
from anoframe.data.tiling import Tiling
from anoframe.errors import AnoframeError, suggest
from anoframe.evaluation.decision import HeldBack, Threshold
from anoframe.models.base import Detector
from anoframe.models.factory import build_detector
from anoframe.registry import check_arguments
from anoframe.training.held_back import read_held_back, write_held_back
from anoframe.utils.files import check_plain_name, read_json, write_atomic, write_json
from anoframe.utils.tensor_files import PICKLE, fingerprint, is_pickle
from anoframe.utils.type_check import matches_type, type_words

FORMAT = 2  # raise it when tensors or keys get other names
_REQUIRED_KEYS = {
    "model": dict[str, Any],
    "backbone": dict[str, Any],
    "preprocessing": dict[str, Any],
    "seed": int,
    "train_images": dict[str, int],
    "learned_sha256": str,
}
PROVENANCE_KEYS = ("trainer", "selected", "protocol_tag")  # of `training`, which results repeat
_ABILITIES = ("uses_category", "category_is_optional", "accepts_new_categories")  # written where they are true
_THRESHOLDS = dict[str, dict[str, float | int | list[str] | None] | None]


@dataclass(frozen=True)
class Checkpoint:
    """A trained detector and everything needed to use it.

    Attributes:
        detector: trained.
        preprocessing: of the images it was trained on.
        model: `model` section of the config.
        seed: of the run.
        train_images: category -> number of images it was trained on.
        thresholds: category -> threshold; None if none could be estimated.
        held_back: category -> scores of its held-back images, which thresholds for other rates are estimated on.
        training: how it was trained, for the provenance of results: `PROVENANCE_KEYS`, and `train_defects` (category ->
            number of defects among its images) of a supervised method; empty otherwise without gradient descent.
        tiling: tiles that images are cut into; None: no tiles.
        ignored: category -> its ignored region; empty: every pixel counts.
    """

    detector: Detector
    preprocessing: Preprocessing
    model: dict[str, Any]
    seed: int
    train_images: dict[str, int]
    thresholds: dict[str, Threshold | None] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    held_back: dict[str, HeldBack] = field(default_factory=dict)
    tiling: Tiling | None = None
    ignored: dict[str, IgnoredRegion] = field(default_factory=dict)

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories it was trained on."""
        return tuple(self.train_images)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """Write all files, `detector.json` last: a folder that has it is complete. Returns the content of that file."""
    state = checkpoint.detector.learned_state()
    learned = save({name: value.contiguous().cpu() for name, value in state.items()})
    write_atomic(folder / "learned.safetensors", learned)
    description: dict[str, Any] = {
        "format": FORMAT,
        "model": checkpoint.model,
        "backbone": _describe_backbone(checkpoint.detector),
        "preprocessing": checkpoint.preprocessing.settings(),
        **({"tiling": checkpoint.tiling.settings()} if checkpoint.tiling else {}),
        **({"ignored": _ignored_to_json(checkpoint)} if checkpoint.ignored else {}),
        "seed": checkpoint.seed,
        "train_images": checkpoint.train_images,
        "thresholds": {name: limits and limits.to_json() for name, limits in checkpoint.thresholds.items()},
        "training": checkpoint.training,
        "learned_sha256": fingerprint(state),
        **{name: True for name in _ABILITIES if getattr(checkpoint.detector, name)},
    }
    write_held_back(folder, checkpoint.held_back, description["learned_sha256"])
    write_json(folder / "detector.json", description)
    return description


@dataclass(frozen=True)
class CheckpointThresholds:
    """The thresholds of a checkpoint and what they are estimated on, read without its detector.

    Attributes:
        categories: that it was trained on.
        thresholds, held_back: as in `Checkpoint`.
    """

    categories: tuple[str, ...]
    thresholds: dict[str, Threshold | None]
    held_back: dict[str, HeldBack]


def read_thresholds(folder: Path) -> CheckpointThresholds:
    """Read the thresholds of a checkpoint.

    Raises:
        AnoframeError: `detector.json` or `held_back.json` is damaged.
    """
    description = _read_description(folder / "detector.json")
    with _naming_file(folder / "detector.json"):
        thresholds = {name: _read_threshold(values) for name, values in description.get("thresholds", {}).items()}
    held_back = read_held_back(folder, description["learned_sha256"])
    return CheckpointThresholds(tuple(description["train_images"]), thresholds, held_back)


def store_thresholds(folder: Path, thresholds: Mapping[str, Threshold]) -> None:
    """Replace the thresholds of some categories in a checkpoint; one atomic write.

    Raises:
        AnoframeError: the checkpoint is damaged, or cannot be written.
    """
    description = _read_description(folder / "detector.json")
    changed = {name: threshold.to_json() for name, threshold in thresholds.items()}
    description["thresholds"] = {**description.get("thresholds", {}), **changed}
    write_json(folder / "detector.json", description)


def load_checkpoint(folder: Path, device: torch.device) -> Checkpoint:
    """Load a trained detector. Needs neither the training data nor the run that wrote it.

    Raises:
        AnoframeError: the folder holds no checkpoint, a damaged one, one of another format, or one that was trained on
            other backbone weights.
    """
    path = folder / "detector.json"
    description = _read_description(path)
    state = _read_state(folder / "learned.safetensors", description["learned_sha256"])
    with _naming_file(path):
        check_arguments(Preprocessing, description["preprocessing"], "preprocessing")
        preprocessing = Preprocessing(**description["preprocessing"])
        tiling = _read_tiling(description.get("tiling"))
        ignored = _read_ignored(description.get("ignored", {}))
        detector = build_detector(description["model"], description["seed"])
    _check_backbone(folder, _describe_backbone(detector), description["backbone"])
    detector.to(device)
    with _naming_file(path):
        detector.load_learned_state(state)
    detector.eval()
    with _naming_file(path):
        thresholds = {name: _read_threshold(values) for name, values in description.get("thresholds", {}).items()}
    return Checkpoint(
        detector,
        preprocessing,
        description["model"],
        description["seed"],
        description["train_images"],
        thresholds,
        description.get("training", {}),
        held_back=read_held_back(folder, description["learned_sha256"]),
        tiling=tiling,
        ignored=ignored,
    )


# ------------------------------------------------------------------------------------------------ finding checkpoints


def list_checkpoints(path: Path) -> dict[str, Path]:
    """List the checkpoints of a run: name of the fit -> folder.

    A checkpoint is left out if another one was trained on all of its categories and more: of a stream of tasks only the
    newest is listed.

    Args:
        path: a run folder, its `checkpoint/` folder, or the folder of one checkpoint.

    Raises:
        AnoframeError: there is no checkpoint, or a `detector.json` is damaged.
    """
    for root in (path / "checkpoint", path):
        folders = {file.parent.name: file.parent for file in sorted(root.glob("*/detector.json"))}
        trained = {name: set(trained_categories(folder)) for name, folder in folders.items()}
        if folders:
            return {
                name: folder
                for name, folder in folders.items()
                if not any(trained[name] < superset for superset in trained.values())
            }
    if (path / "detector.json").is_file():
        return {path.name: path}
    raise AnoframeError(f"no checkpoint in {path}: give a run folder, or its checkpoint folder")


def find_checkpoint(path: Path, category: str | None) -> Path:
    """Find the checkpoint that was trained on a category, without loading any.

    Args:
        path: as for `list_checkpoints`.
        category: None asks for the only checkpoint.

    Raises:
        AnoframeError: no checkpoint, none of that category, several and no category given, or one whose detector uses
            the name of the category, has learned several, and got no name.
    """
    trained = {folder: trained_categories(folder) for folder in list_checkpoints(path).values()}
    names = [name for categories in trained.values() for name in categories]
    only = next(iter(trained)) if len(trained) == 1 else None
    needs_category = only and _has_ability(only, "uses_category") and not _has_ability(only, "category_is_optional")
    if category is None and len(names) > 1 and needs_category and only:
        any_name = ", or any other name" if _has_ability(only, "accepts_new_categories") else ""
        raise AnoframeError(
            f"the detector in {path} uses the name of the product: give it with --cls_names, of {', '.join(names)}"
            f"{any_name}"
        )
    if category is None and only:
        return only
    if category is None:
        raise AnoframeError(f"{path} has one detector per category: choose one with --cls_names, of {', '.join(names)}")
    for folder, categories in trained.items():
        if category in categories:
            return folder
    if only and _has_ability(only, "accepts_new_categories"):
        return only
    raise AnoframeError(f"{path} has no detector for category {category!r}: {suggest(category, names)}")


def trained_categories(folder: Path) -> tuple[str, ...]:
    """Categories that the checkpoint in a folder was trained on, from its `detector.json`."""
    return tuple(_read_description(folder / "detector.json")["train_images"])


def read_training(folder: Path) -> dict[str, Any]:
    """How the checkpoint in a folder was trained (`Checkpoint.training`), from its `detector.json`."""
    training: dict[str, Any] = _read_description(folder / "detector.json").get("training", {})
    return training


def _has_ability(folder: Path, name: str) -> bool:
    return _read_description(folder / "detector.json").get(name, False) is True


def select_checkpoint(checkpoints: Sequence[Checkpoint], category: str) -> Checkpoint | None:
    """The first checkpoint that was trained on a category, or the only one if it accepts new ones; None without any."""
    for checkpoint in checkpoints:
        if category in checkpoint.categories:
            return checkpoint
    return checkpoints[0] if accept_new_categories(checkpoints) else None


def accept_new_categories(checkpoints: Sequence[Checkpoint]) -> bool:
    """Whether a category that was not trained on can be tested: there is one detector, and it declares so."""
    return len(checkpoints) == 1 and checkpoints[0].detector.accepts_new_categories


# ------------------------------------------------------------------------------------------------ reading and checking


def _read_description(path: Path) -> dict[str, Any]:
    """Read a `detector.json` and check its format and the types of its values."""
    description = read_json(path)
    if not isinstance(description, dict) or "format" not in description:
        raise AnoframeError(f"{path} is damaged: it has no key 'format'; fit the detector again")
    if (number := description["format"]) != FORMAT:
        raise AnoframeError(
            f"{path.parent} has checkpoint format {number!r}, and this version of anoframe reads format {FORMAT}: fit "
            "the detector again, or open the checkpoint with the version that wrote it"
        )
    if missing := sorted(_REQUIRED_KEYS.keys() - description.keys()):
        raise AnoframeError(f"{path} is damaged: it has no {', '.join(missing)}; fit the detector again")
    for key, expected in _REQUIRED_KEYS.items():
        _check_type(path, key, description[key], expected)
    _check_type(path, "thresholds", description.get("thresholds", {}), _THRESHOLDS)
    _check_type(path, "training", description.get("training", {}), dict[str, dict[str, Any] | str])
    for key, kind in (("protocol_tag", str), ("train_defects", dict[str, int])):
        if key in description.get("training", {}):
            _check_type(path, f"training.{key}", description["training"][key], kind)
    for key in ("name", "weights", "sha256"):
        _check_type(path, f"backbone.{key}", description["backbone"].get(key), str)
    with _naming_file(path):
        for category in description["train_images"]:
            check_plain_name(category, "category")
    return description


def _check_type(path: Path, key: str, value: object, expected: Any) -> None:
    if not matches_type(value, expected):
        raise AnoframeError(
            f"{path} is damaged: {key} takes {type_words(expected)}, got {value!r}; fit the detector again"
        )


def _read_state(path: Path, sha256: str) -> dict[str, torch.Tensor]:
    try:
        data = path.read_bytes()
        state = load(data)
    except OSError as error:
        raise AnoframeError(f"{path} is missing or damaged ({error.strerror}): fit the detector again") from error
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:  # all raised by damaged headers
        if is_pickle(data):
            raise AnoframeError(f"{path}: {PICKLE}, or fit the detector again") from error
        raise AnoframeError(f"{path} is missing or damaged ({error}): fit the detector again") from error
    if fingerprint(state) != sha256:
        raise AnoframeError(
            f"{path} is damaged or was replaced: its tensors do not match detector.json; fit the detector again"
        )
    return state


def _ignored_to_json(checkpoint: Checkpoint) -> dict[str, Any]:
    return {category: region.to_json() for category, region in checkpoint.ignored.items()}


def _read_tiling(values: Any) -> Tiling | None:
    if values is None:
        return None
    if not matches_type(values, dict[str, Any]):
        raise AnoframeError(f"its tiling is damaged, got {values!r}; fit the detector again")
    check_arguments(Tiling, values, "tiling")
    return Tiling(**values)


def _read_ignored(values: Any) -> dict[str, IgnoredRegion]:
    if not matches_type(values, dict[str, dict[str, Any]]):
        raise AnoframeError(f"its ignored regions are damaged, got {values!r}; fit the detector again")
    return {category: IgnoredRegion.from_json(tree, category) for category, tree in values.items()}


def _read_threshold(values: dict[str, Any] | None) -> Threshold | None:
    if values is None:
        return None
    check_arguments(Threshold, values, "threshold")
    return Threshold(**{**values, "given": tuple(values.get("given", ()))})


def _check_backbone(folder: Path, current: dict[str, Any], expected: dict[str, Any]) -> None:
    if current["sha256"] != expected["sha256"]:
        raise AnoframeError(
            f"{folder}: trained on other weights of {expected['name']} ({expected['weights']}, "
            f"sha256 {expected['sha256'][:12]}) than the current ones ({current['sha256'][:12]}): restore those "
            "weights, or fit the detector again"
        )


def _describe_backbone(detector: Detector) -> dict[str, Any]:
    backbone: Any = detector.backbone
    description: dict[str, Any] = backbone.describe()
    return description


@contextmanager
def _naming_file(path: Path) -> Iterator[None]:
    """Context whose AnoframeErrors begin with the name of a file."""
    try:
        yield
    except AnoframeError as error:
        raise AnoframeError(f"{path}: {error}") from error
