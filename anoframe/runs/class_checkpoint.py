"""Checkpoints of a class-incremental classifier: what it learned, and the exemplars that the next task needs.

`learned.safetensors`, `exemplars.json` and, written last, `classifier.json`, which marks a folder as complete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from anoframe.errors import AnoframeError
from anoframe.models.class_incremental.base import ClassIncrementalLearner
from anoframe.runs.exemplar_files import DIGEST, hash_content
from anoframe.utils.files import read_json, write_atomic, write_json
from anoframe.utils.tensor_files import fingerprint
from anoframe.utils.type_check import matches_type

FORMAT = 1  # raise it when files, tensors or keys get other names
DESCRIPTION, LEARNED, EXEMPLARS = "classifier.json", "learned.safetensors", "exemplars.json"
Exemplar = dict[str, str]  # "name" of the image below the root of the data, its "class", and "sha256" of its content


def save_classifier(
    folder: Path, learner: ClassIncrementalLearner, exemplars: Sequence[Exemplar], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Write a checkpoint and return its description.

    Args:
        folder: of the checkpoint.
        learner: trained.
        exemplars: images of tasks so far that the next task is trained on as well.
        facts: `model`, `backbone`, `preprocessing` and `seed`, to build the classifier again.
    """
    state = {name: value.contiguous().cpu() for name, value in learner.learned_state().items()}
    write_atomic(folder / LEARNED, save(state))
    content = (json.dumps(list(exemplars), indent=1) + "\n").encode()
    write_atomic(folder / EXEMPLARS, content)
    description = {
        "format": FORMAT,
        **facts,
        "classes": [[learner.classes[place] for place in places] for places in learner.task_classes],
        "learned_sha256": fingerprint(state),
        DIGEST: hash_content(content),
    }
    write_json(folder / DESCRIPTION, description)
    return description


def load_classifier(folder: Path, learner: ClassIncrementalLearner) -> ClassIncrementalLearner | None:
    """Load a checkpoint into an untrained classifier; None if there is none, or a damaged one.

    Raises:
        AnoframeError: the checkpoint is of another format or method.
    """
    if not (folder / DESCRIPTION).is_file():
        return None
    try:
        description = read_json(folder / DESCRIPTION)
        state = load((folder / LEARNED).read_bytes())
    except (AnoframeError, OSError, SafetensorError, ValueError, RuntimeError, KeyError, TypeError):
        return None
    if not isinstance(description, dict) or description.get("learned_sha256") != fingerprint(state):
        return None
    if description.get("format") != FORMAT:
        raise AnoframeError(
            f"{folder} has checkpoint format {description.get('format')!r}, and this version reads {FORMAT}: train "
            "again with --overwrite"
        )
    device = learner.class_counts.device
    learner.load_learned_state({name: value.to(device) for name, value in state.items()})
    return learner.eval()


def read_exemplars(folder: Path, rows: Mapping[str, int], hashes: Sequence[str]) -> list[int]:
    """Read the exemplars of a checkpoint as rows of the training images.

    Args:
        folder: of the checkpoint.
        rows: name of an image below the root of the data -> its row.
        hashes: of the content of each row.

    Raises:
        AnoframeError: the file is missing or was changed, or an exemplar is missing or has another content.
    """
    path, digest = folder / EXEMPLARS, read_json(folder / DESCRIPTION).get(DIGEST)
    entries = read_json(path)
    is_whole = matches_type(entries, list[dict[str, str]]) and all({"name", "sha256"} <= set(each) for each in entries)
    if not is_whole or hash_content(path.read_bytes()) != digest:
        raise AnoframeError(
            f"{path}, the exemplars of earlier tasks, was changed since its task was trained: restore it, or start "
            "again with --overwrite"
        )
    chosen = []
    for entry in entries:
        row = rows.get(entry["name"])
        if row is None or hashes[row] != entry["sha256"]:
            what = "is missing" if row is None else "has another content than when it was chosen"
            raise AnoframeError(
                f"exemplar {entry['name']} of {path} {what}: restore the image, or start again with --overwrite"
            )
        chosen.append(row)
    return chosen
