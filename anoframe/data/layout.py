"""The folder layout of MVTec AD, which most datasets of the field share.

<category>/train/good/000.png
<category>/test/good/000.png
<category>/test/<defect>/000.png
<category>/ground_truth/<defect>/000_mask.png     (or 000.png)
"""

from __future__ import annotations

from pathlib import Path

from anoframe.data.dataset import Dataset
from anoframe.data.images import is_image_file
from anoframe.types import GOOD, Sample

TRAIN, TEST, MASKS = "train", "test", "ground_truth"

CATEGORY_TREE = """\
      train/good/000.png ...
      test/good/000.png ...
      test/<defect>/000.png ...
      ground_truth/<defect>/000_mask.png ...   (or 000.png)"""


def is_category(folder: Path) -> bool:
    """Whether a folder looks like one category."""
    return (folder / TRAIN).is_dir() or (folder / TEST).is_dir()


def subfolders(folder: Path) -> list[Path]:
    """Folders right below, sorted by name, without hidden ones."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def index_category(folder: Path, category: str) -> list[Sample]:
    """Samples of a category folder: train/good, then test/* in alphabetical order. Empty where a folder is missing."""
    samples = [Sample(image, category, TRAIN) for image in _images(folder / TRAIN / GOOD)]
    for defect in subfolders(folder / TEST):
        masks = {} if defect.name == GOOD else _masks(folder / MASKS / defect.name)
        samples += [
            Sample(image, category, TEST, defect.name, masks.get(f"{image.stem}_mask") or masks.get(image.stem))
            for image in _images(defect)
        ]
    return samples


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_image_file(path)) if folder.is_dir() else []


def _masks(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in _images(folder)}


class LayoutDataset(Dataset):
    """A root with one such folder a category."""

    def folder(self, category: str) -> Path:
        return self.root / category

    def mask_folder(self, category: str) -> Path:
        return self.folder(category) / MASKS

    def _index(self, category: str) -> list[Sample]:
        return index_category(self.folder(category), category)

    def _find_categories(self) -> list[str]:
        return [folder.name for folder in subfolders(self.root) if self._holds_category(folder)]

    def _holds_category(self, folder: Path) -> bool:
        return folder.name in self.official_counts

    def _misplaced(self) -> str:
        """Says what was found instead: a category, the folder above the root, or somebody's own categories."""
        if is_category(self.root):
            return self._category_as_root()
        for below in subfolders(self.root):
            if any(self._holds_category(folder) for folder in subfolders(below)):
                return f"no category in {self.root}, but in {below}: give that as the root"
        if any(is_category(below) for below in subfolders(self.root)):
            return f"no category of {self.name!r} in {self.root}; for categories of your own use --data.name folder"
        return super()._misplaced()

    def _category_as_root(self) -> str:
        name = self.root.resolve().name
        if name in self.official_counts:
            return f"{self.root} is one category, not the dataset: give its parent folder, and --cls_names {name}"
        return f"{self.root} is one category of your own: use --data.name folder"
