"""Manifest of a split: the files of each part with the SHA-256 of their content, as `split.json` of a run folder.

Two runs with the same split hash have trained and tested on the same bytes. See docs/splits.md for the format.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from anoframe.data.dataset import Dataset
from anoframe.data.file_checks import THREADS
from anoframe.data.splits import Split, relative_name
from anoframe.errors import AnoframeError
from anoframe.types import Sample
from anoframe.utils.files import read_json, write_json
from anoframe.utils.type_check import matches_type

MANIFEST_FILE = "split.json"
PARTS = ("train", "test")
FORMAT = 1
Files = dict[str, dict[str, list[dict[str, str]]]]  # category -> part -> `file`, `sha256` and `defect` of each image
_TYPES = {"format": int, "split": str, "seed": int, "shots": int, "split_hash": str, "categories": Files}


@dataclass(frozen=True)
class Manifest:
    """What a split has made of the categories of a run.

    Attributes:
        split: the rule.
        files: category -> `train` and `test` -> rows, sorted by `file`, the path below the root of the dataset.
        protocol_tag: of the run that it belongs to; None for a method that learns from normal images only.
    """

    split: Split
    files: Files
    protocol_tag: str | None = None

    @property
    def hash(self) -> str:
        """SHA-256 of the split and its files, in hex digits. It does not depend on the tag, nor on the place of data.

        A run of an unsupervised method on the same split has the same hash.
        """
        text = json.dumps({**self._rule(), "categories": self.files}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write the manifest; equal manifests give equal bytes.

        Raises:
            OutputError: the file cannot be written.
        """
        tag = {"protocol_tag": self.protocol_tag} if self.protocol_tag else {}
        write_json(path, {"format": FORMAT, **self._rule(), **tag, "split_hash": self.hash, "categories": self.files})

    def check_parts(self) -> None:
        """Check that no image is in two parts, by path and by content, over all categories.

        Raises:
            AnoframeError: names both files.
        """
        parts: dict[str, tuple[str, str]] = {}  # path or hash -> part and file where it was first
        for name, part in product(self.files, PARTS):
            for row in self.files[name][part]:
                for key in (row["file"], row["sha256"]):
                    other, file = parts.setdefault(key, (part, row["file"]))
                    if other != part:
                        raise AnoframeError(
                            f"data.split {self.split.name}: {row['file']}, a {part} image, has the same content as "
                            f"{file}, a {other} image: remove one of the two files"
                        )

    def check_files(self, root: Path) -> None:
        """Check that the files of a dataset are those of the manifest.

        Args:
            root: of the dataset.

        Raises:
            AnoframeError: a file is missing, or has another content; names the first and their number.
        """
        rows = [row for parts in self.files.values() for part in PARTS for row in parts[part]]
        hashes = _hash_files([root / row["file"] for row in rows])
        changed = [row["file"] for row, sha256 in zip(rows, hashes, strict=True) if row["sha256"] != sha256]
        if changed:
            raise AnoframeError(
                f"{len(changed)} files in {root} are not those of the split, the first is {changed[0]}: restore them, "
                "or make a new run"
            )

    def _rule(self) -> dict[str, Any]:
        return {"split": self.split.name, "seed": self.split.seed, "shots": self.split.shots}


def make_manifest(dataset: Dataset, categories: Sequence[str], protocol_tag: str | None = None) -> Manifest:
    """List and hash the images of the categories, divided by the split of the dataset.

    Time: that of reading the images once, in several threads. Memory: one file per thread, and 300 bytes per file.

    Raises:
        AnoframeError: a file cannot be read, or an image is in two parts.
    """
    files: Files = {}
    for category in categories:
        samples = dataset.samples(category)
        hashes = dict(zip(samples, _hash_files([sample.image for sample in samples]), strict=True))
        files[category] = {part: _rows(samples, hashes, part, dataset.root) for part in PARTS}
    manifest = Manifest(dataset.split, files, protocol_tag)
    manifest.check_parts()
    return manifest


def _rows(samples: Sequence[Sample], hashes: Mapping[Sample, str], part: str, root: Path) -> list[dict[str, str]]:
    rows = [
        {"file": relative_name(sample.image, root), "sha256": hashes[sample], "defect": sample.defect}
        for sample in samples
        if sample.split == part
    ]
    return sorted(rows, key=lambda row: row["file"])


def _hash_files(paths: Sequence[Path]) -> list[str]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(_hash_file, paths))


def _hash_file(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise AnoframeError(f"{path} cannot be read: {error.strerror}; check the path and its permissions") from error


def read_manifest(path: Path) -> Manifest:
    """Read a manifest and check it: its types, its hash, and that no image is in two parts.

    Raises:
        AnoframeError: it is missing, damaged, changed, or of another format.
    """
    tree = read_json(path)
    for key, kind in _TYPES.items():
        if not isinstance(tree, dict) or not matches_type(tree.get(key), kind):
            raise AnoframeError(f"{path} is damaged, its {key} cannot be read: run the same config again")
    if tree["format"] != FORMAT:
        raise AnoframeError(f"{path} has format {tree['format']}, this version reads {FORMAT}: run the config again")
    try:
        manifest = Manifest(
            Split(tree["split"], tree["seed"], tree["shots"]), tree["categories"], tree.get("protocol_tag")
        )
        is_whole = manifest.hash == tree["split_hash"]
        manifest.check_parts()
    except (AnoframeError, KeyError) as error:
        raise AnoframeError(f"{path} is damaged: {error}; run the same config again") from error
    if not is_whole:
        raise AnoframeError(f"{path} was changed: its files do not have the hash that it names; run the config again")
    return manifest
