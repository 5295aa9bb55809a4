"""KolektorSDD2 (Božič et al., Computers in Industry 2021): one surface, 3,335 images.

An image is normal if its mask is empty. The published train split has defects; they are left out, because the methods
here are trained on normal images. The two copies of 10301.png in the download are left out as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from anoframe.data.dataset import Counts, Dataset
from anoframe.data.image_decoding import is_image_file
from anoframe.data.masks import read_mask
from anoframe.errors import AnoframeError
from anoframe.types import GOOD, Sample

CATEGORY = "ksdd2"
KSDD2_COUNTS = {CATEGORY: Counts(2085, 894, 110)}

SPLITS = ("train", "test")
DEFECT = "defect"
_MASK_SUFFIX = "_GT"
_COPY = " (copy)"


class _Content(NamedTuple):
    samples: list[Sample]
    left_out: dict[str, list[Path]]


class KolektorSDD2(Dataset):
    """KolektorSDD2 as unpacked from the download. Listing the samples decodes all masks."""

    name = "ksdd2"
    title = "KolektorSDD2"
    official_counts = KSDD2_COUNTS
    expected_layout = f"""\
    <root>/train/10000.png ...
    <root>/train/10000{_MASK_SUFFIX}.png ...      (mask; empty for a normal image)
    <root>/test/20000.png ...
    <root>/test/20000{_MASK_SUFFIX}.png ...
    The only category is {CATEGORY}."""

    @classmethod
    def has_layout(cls, root: Path) -> bool:
        return any((root / "train").glob(f"*{_MASK_SUFFIX}.*"))

    def folder(self, category: str) -> Path:
        return self.root

    def mask_folder(self, category: str) -> None:
        return None

    def left_out(self, category: str) -> Mapping[str, Sequence[Path]]:
        return self._content.left_out

    def _find_categories(self) -> list[str]:
        return [CATEGORY] if self.has_layout(self.root) else []

    def _index(self, category: str) -> list[Sample]:
        return self._content.samples

    @cached_property
    def _content(self) -> _Content:
        samples: list[Sample] = []
        unused_masks: list[Path] = []
        defects_of_train: list[Path] = []
        copies: list[Path] = []
        for split in SPLITS:
            files = sorted(path for path in _folder(self.root / split).iterdir() if is_image_file(path))
            copies += [path for path in files if _COPY in path.stem]
            files = [path for path in files if _COPY not in path.stem]
            masks = {path.stem.removesuffix(_MASK_SUFFIX): path for path in files if path.stem.endswith(_MASK_SUFFIX)}
            for image in (path for path in files if not path.stem.endswith(_MASK_SUFFIX)):
                mask = masks.get(image.stem)
                if mask is None:
                    raise AnoframeError(
                        f"{image}: no mask {image.stem}{_MASK_SUFFIX}{image.suffix}, which decides whether the image "
                        "is normal; take it from the download again"
                    )
                if not read_mask(mask).any():
                    unused_masks.append(mask)
                    samples.append(Sample(image, CATEGORY, split, GOOD))
                elif split == "train":
                    defects_of_train.append(image)
                    unused_masks.append(mask)
                else:
                    samples.append(Sample(image, CATEGORY, split, DEFECT, mask))
        return _Content(
            samples,
            {
                "with a defect in the train split, left out": defects_of_train,
                "that are masks of normal images or of those left out, which are not needed": unused_masks,
                "that are copies of others in the download, left out": copies,
            },
        )


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise AnoframeError(f"{path}: the folder does not exist; take it from the download again")
    return path
