"""The exemplars of a task on disk: `exemplars.json` in the checkpoint of the task, which the next task reads.

The file holds names, classes and hashes; the images stay where they are. The next task of a killed and resumed run
reads the same file as that of an uninterrupted one, so both train on the same exemplars.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from anoframe.data.splits import relative_name
from anoframe.errors import AnoframeError
from anoframe.types import Sample
from anoframe.utils.type_check import matches_type

FILE = "exemplars.json"
DIGEST = "exemplars_sha256"  # key of the checkpoint's `training`: hash of the file
_FORMAT = 1
_ENTRY = {"file": str, "category": str, "class": str, "synthetic": bool, "sha256": str}


def describe_exemplars(samples: Sequence[Sample], class_of: Callable[[Sample], str], root: Path) -> bytes:
    """Return the content of `exemplars.json`.

    Args:
        samples: the exemplars, in the order in which the next task sees them.
        class_of: class of a sample.
        root: folder of the dataset; files are named relative to it.
    """
    entries = [
        {
            "file": relative_name(sample.image, root),
            "category": sample.category,
            "class": class_of(sample),
            "synthetic": sample.synthetic,
            "sha256": _sha256(sample.image),
        }
        for sample in samples
    ]
    return (json.dumps({"format": _FORMAT, "exemplars": entries}, indent=1) + "\n").encode()


def read_exemplars(folder: Path, digest: str | None, candidates: Iterable[Sample], root: Path) -> tuple[Sample, ...]:
    """Read the exemplars that a task has left.

    Args:
        folder: checkpoint of the task.
        digest: hash of the file, from the checkpoint.
        candidates: training samples of all earlier tasks, synthetic ones included.
        root: folder of the dataset.

    Raises:
        AnoframeError: the file is missing or was changed, or an image of it is missing or was changed.
    """
    path = folder / FILE
    entries = _read(path, digest)
    known = {(relative_name(sample.image, root), sample.synthetic): sample for sample in candidates}
    samples = []
    for entry in entries:
        sample = known.get((entry["file"], entry["synthetic"]))
        if sample is None:
            raise AnoframeError(
                f"{path} names {entry['file']}, which is no training image of {entry['category']} now: restore it, or "
                "start again with --overwrite"
            )
        if _sha256(sample.image) != entry["sha256"]:
            raise AnoframeError(
                f"{sample.image} has changed since it became an exemplar in {path}: restore it, or start again with "
                "--overwrite"
            )
        samples.append(sample)
    return tuple(samples)


def hash_content(content: bytes) -> str:
    """Return the SHA-256 of a file's content, in hex digits."""
    return hashlib.sha256(content).hexdigest()


def count_bytes(samples: Iterable[Sample]) -> int:
    """Return the size on disk of the image files that exemplars need; a file that two of them share counts once."""
    return sum(path.stat().st_size for path in {sample.image for sample in samples})


def _sha256(path: Path) -> str:
    try:
        return hash_content(path.read_bytes())
    except OSError as error:
        raise AnoframeError(f"{path}, an exemplar, cannot be read ({error.strerror}): restore it") from error


def _read(path: Path, digest: str | None) -> list[dict[str, Any]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AnoframeError(
            f"{path}, the exemplars of earlier tasks, is missing ({error.strerror}): restore it, or start again with "
            "--overwrite"
        ) from error
    if hash_content(content) != digest:
        raise AnoframeError(
            f"{path}, the exemplars of earlier tasks, was changed since its task was trained: restore it, or start "
            "again with --overwrite"
        )
    tree = json.loads(content)
    entries: list[dict[str, Any]] = tree["exemplars"]
    if tree["format"] != _FORMAT or not all(
        isinstance(entry, dict) and all(matches_type(entry.get(key), kind) for key, kind in _ENTRY.items())
        for entry in entries
    ):
        raise AnoframeError(f"{path} was written by another version of anoframe: start again with --overwrite")
    return entries
