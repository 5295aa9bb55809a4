"""Scores of held-back normal images in a checkpoint: `held_back.json`.

Thresholds for other false-positive rates are estimated on them, without another fit. The file has the hash of the
learned state that the scores belong to. Checkpoints of earlier versions, and of detectors without held-back images,
have no such file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anoframe.errors import AnoframeError
from anoframe.evaluation.decision import HeldBack
from anoframe.utils.files import read_json, write_error, write_json
from anoframe.utils.type_check import matches_type

HELD_BACK_FILE = "held_back.json"
_CATEGORIES = dict[str, dict[str, list[float]]]  # category -> "scores" and "peaks"


def write_held_back(folder: Path, held_back: Mapping[str, HeldBack], sha256: str) -> None:
    """Write the scores of a checkpoint; without scores, remove those of an earlier fit.

    Args:
        folder: of the checkpoint.
        held_back: category -> scores.
        sha256: hash of the learned state.
    """
    path = folder / HELD_BACK_FILE
    if held_back:
        categories = {name: {"scores": list(x.scores), "peaks": list(x.peaks)} for name, x in held_back.items()}
        write_json(path, {"learned_sha256": sha256, "categories": categories})
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def read_held_back(folder: Path, sha256: str) -> dict[str, HeldBack]:
    """Read the scores of a checkpoint; empty if there are none.

    Raises:
        AnoframeError: the file is damaged, or belongs to another learned state.
    """
    path = folder / HELD_BACK_FILE
    if not path.exists():
        return {}
    tree = read_json(path)
    is_whole = _is_whole(tree)
    if not is_whole or tree.get("learned_sha256") != sha256:
        reason = "it belongs to another detector" if is_whole else "it has no scores per category"
        raise AnoframeError(
            f"{path} is damaged, {reason}: restore it, or remove it; then only --threshold.value sets a threshold"
        )
    return {name: HeldBack(tuple(x["scores"]), tuple(x["peaks"])) for name, x in tree["categories"].items()}


def _is_whole(tree: Any) -> bool:
    return (
        isinstance(tree, dict)
        and matches_type(tree.get("categories"), _CATEGORIES)
        and all(
            values.keys() == {"scores", "peaks"} and len(values["peaks"]) in (0, len(values["scores"]))
            for values in tree["categories"].values()
        )
    )
