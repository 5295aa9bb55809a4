"""A user's own images: in the layout of MVTec AD, or normal and defective images in one folder each."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from anoframe.data.listing import list_images
from anoframe.data.mvtec_layout import (
    CATEGORY_LAYOUT,
    MASKS,
    NAMES_OF_GOOD,
    TEST,
    TRAIN,
    MVTecLayoutDataset,
    index_folder,
    is_category,
    subfolders,
)
from anoframe.types import Sample


class Folder(MVTecLayoutDataset):
    """Each subfolder with the layout is a category; a root with the layout is itself the only category.

    A category has the layout of MVTec AD, or one folder of normal images (`good`, `normal` or `ok`, in any capitals)
    and any number of folders of defects (`bad`, `scratch`, ...). Its normal images are then divided by `normal_split`,
    and all defects are test images. Masks are optional; without masks no pixel metric is available.
    """

    name = "folder"
    title = "your own images"
    expected_layout = f"""\
    <root>/<category>/           (or <root>/ itself, with one category)
{CATEGORY_LAYOUT}
    or without a split, which data.train_share and data.split_seed then define
    <root>/<category>/
      good/000.png ...           (or normal/, ok/)
      <defect>/000.png ...       (bad/, scratch/, ...)
      ground_truth/<defect>/000_mask.png ..."""

    @classmethod
    def has_layout(cls, root: Path) -> bool:
        return is_category(root) or super().has_layout(root)

    def folder(self, category: str) -> Path:
        return self.root if self._is_single_category else self.root / category

    def notes(self, category: str) -> list[str]:
        folder = self.folder(category)
        if is_category(folder):
            return []
        train, test = self.normal_split.divide(list_images(_normal_folders(folder)[0]).files)
        name, split = _normal_folders(folder)[0].name, self.normal_split
        then = "" if self.split.is_official else f"; data.split {self.split.name} divides them further"
        return [
            f"no train and test folder: of the images in {name}, {len(train)} are for training and {len(test)} for "
            f"testing (data.train_share {split.train_share:g}, data.split_seed {split.seed}), and all defects{then}"
        ]

    def _find_categories(self) -> list[str]:
        return [self.root.resolve().name] if self._is_single_category else super()._find_categories()

    def _index(self, category: str) -> list[Sample]:
        folder = self.folder(category)
        return super()._index(category) if is_category(folder) else self._index_unsplit(folder, category)

    def _index_unsplit(self, folder: Path, category: str) -> list[Sample]:
        """List the samples of a category that has one folder of normal images, and one for each defect type."""
        normal = _normal_folders(folder)[0]
        train, test = self.normal_split.divide(list_images(normal).files)
        samples = [Sample(image, category, TRAIN) for image in train]
        for defect in subfolders(folder):
            if defect == normal:
                samples += [Sample(image, category, TEST) for image in test]
            elif defect.name != MASKS:
                samples += index_folder(defect, category, TEST, defect.name, folder / MASKS / defect.name)
        return samples

    @classmethod
    def _is_own_category(cls, folder: Path) -> bool:
        return is_category(folder) or _is_unsplit_category(folder)

    @cached_property
    def _is_single_category(self) -> bool:
        if is_category(self.root) or not _is_unsplit_category(self.root):
            return is_category(self.root)
        return not any(is_category(folder) for folder in subfolders(self.root))


def _is_unsplit_category(folder: Path) -> bool:
    """Return whether a folder has one folder of normal images, in place of `train` and `test`."""
    is_split = folder.resolve().name.lower() in (TRAIN, TEST)
    return not is_split and not is_category(folder) and len(_normal_folders(folder)) == 1


def _normal_folders(folder: Path) -> list[Path]:
    """List the direct subfolders that contain images and have the name `good` or another word for it."""
    named = [path for path in subfolders(folder) if path.name.lower() in NAMES_OF_GOOD]
    return [path for path in named if list_images(path).files]
