"""Reading the folder layout of MVTec AD, which many anomaly detection datasets use.

<category>/train/good/000.png
<category>/test/good/000.png
<category>/test/<defect>/000.png
<category>/ground_truth/<defect>/000_mask.png     (or 000.png, or several masks in 000/)
"""

from __future__ import annotations

from pathlib import Path

from anoframe.data.dataset import Dataset
from anoframe.data.listing import is_hidden, list_images
from anoframe.types import GOOD, Sample

TRAIN, TEST, MASKS = "train", "test", "ground_truth"
NAMES_OF_GOOD = frozenset({GOOD, "ok", "normal", "nominal", "defect_free", "defect-free"})  # in lower case

CATEGORY_LAYOUT = """\
      train/good/000.png ...
      test/good/000.png ...
      test/<defect>/000.png ...
      ground_truth/<defect>/000_mask.png ...   (or 000.png, or several masks in 000/)"""


def is_category(folder: Path) -> bool:
    """Return whether a folder has the layout of a category."""
    return (folder / TRAIN).is_dir() or (folder / TEST).is_dir()


def subfolders(folder: Path) -> list[Path]:
    """List the direct subfolders, sorted by name, without hidden ones."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))


def misspelt_folder(folder: Path) -> str:
    """Describe a subfolder with the name of the layout in other capitals, such as `Train`; empty if there is none."""
    for path in subfolders(folder):
        lower = path.name.lower()
        if lower in (TRAIN, TEST, MASKS) and lower != path.name and not (folder / lower).exists():
            return f"{path} is not read; rename it to {lower}, in lower case"
    return ""


def index_category(folder: Path, category: str) -> list[Sample]:
    """List the samples of a category folder: train/good, then test/* in alphabetical order.

    A missing folder has no samples. A defect without a mask file gets the mask None.
    """
    samples = index_folder(folder / TRAIN / GOOD, category, TRAIN)
    for defect in subfolders(folder / TEST):
        masks = None if defect.name == GOOD else folder / MASKS / defect.name
        samples += index_folder(defect, category, TEST, defect.name, masks)
    return samples


def index_folder(
    folder: Path, category: str, split: str, defect: str = GOOD, mask_folder: Path | None = None
) -> list[Sample]:
    """List the images of one folder as samples, sorted by name; a missing folder has none."""
    masks = _masks_by_stem(mask_folder) if mask_folder else {}
    return [
        Sample(image, category, split, defect, masks.get(f"{image.stem}_mask") or masks.get(image.stem))
        for image in _image_files(folder)
    ]


def _image_files(folder: Path) -> list[Path]:
    return list_images(folder).files


def _masks_by_stem(folder: Path) -> dict[str, Path]:
    """Return the name of each mask without suffix -> its file, or the folder of its files as in MVTec LOCO."""
    folders = {path.name: path for path in subfolders(folder) if _image_files(path)}
    return folders | {path.stem: path for path in _image_files(folder)}


class MVTecLayoutDataset(Dataset):
    """Dataset with one folder per category below its root, in the layout of MVTec AD."""

    @classmethod
    def has_layout(cls, root: Path) -> bool:
        categories = [folder for folder in subfolders(root) if is_category(folder)]
        return bool(categories) and all(cls._is_own_category(folder) for folder in categories)

    def folder(self, category: str) -> Path:
        return self.root / category

    def mask_folder(self, category: str) -> Path:
        return self.folder(category) / MASKS

    def _index(self, category: str) -> list[Sample]:
        return index_category(self.folder(category), category)

    def _find_categories(self) -> list[str]:
        return [folder.name for folder in subfolders(self.root) if self._is_own_category(folder)]

    @classmethod
    def _is_own_category(cls, folder: Path) -> bool:
        """Return whether a folder is a category of this dataset."""
        return folder.name in cls.official_counts

    def _explain_no_category(self) -> str:
        """Recognise the common wrong roots: a category, the parent of the root, and the user's own categories."""
        if is_category(self.root):
            return self._explain_category_as_root()
        for folder in subfolders(self.root):
            if any(self._is_own_category(subfolder) for subfolder in subfolders(folder)):
                return f"no category in {self.root}, but in {folder}: give that as the root"
        for folder in (self.root, *subfolders(self.root)):
            if wrong := misspelt_folder(folder):
                return f"no category found in {self.root}, but {wrong}"
        if any(is_category(folder) for folder in subfolders(self.root)):
            return f"no category of {self.name!r} in {self.root}; for your own categories use --data.name folder"
        return super()._explain_no_category()

    def _explain_category_as_root(self) -> str:
        name = self.root.resolve().name
        if name in self.official_counts:
            return f"{self.root} is one category, not the dataset: give its parent folder, and --cls_names {name}"
        return f"{self.root} is a category of your own: use --data.name folder"
