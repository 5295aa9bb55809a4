"""Features of an evaluation that has not ended, kept on disk: a resumed evaluation encodes only the other images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from anoframe.utils.tensor_cache import TensorCache, cache_key

_NAME = "features"
_NO_LIMIT = 2**63  # bytes: only the disk limits the features of one evaluation


class KeptFeatures:
    """Blocks of features, one file each.

    A block is found by the contents of its images in their order and by the recipe, so a changed image or setting is
    computed again. So is a missing or damaged block. A full disk costs a warning and no result.

    Args:
        folder: of the files; the caller removes it when the evaluation has ended.
        contents: hash of each image, in the order of the index.
        recipe: what features depend on besides the images, JSON-compatible.
        warn: called with `text=` if nothing can be written.
    """

    def __init__(self, folder: Path, contents: Sequence[str], recipe: Any, warn: Callable[..., None] | None = None):
        self._cache = TensorCache(folder, _NO_LIMIT, warn)
        self._contents, self._recipe = contents, recipe

    def read(self, rows: range) -> Tensor | None:
        """Read the features `[len(rows), D]` of these images; None if they are not kept."""
        stored = self._cache.read(self._key(rows), [_NAME])
        return None if stored is None else stored[_NAME].clone()  # not mapped: the file will be removed

    def write(self, rows: range, features: Tensor) -> None:
        """Keep the features of these images."""
        self._cache.write(self._key(rows), {_NAME: features})

    def _key(self, rows: range) -> str:
        return cache_key(self._recipe, [self._contents[row] for row in rows])
