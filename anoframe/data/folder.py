"""A user's own images, in the layout of MVTec AD."""

from __future__ import annotations

from pathlib import Path

from anoframe.data.mvtec_layout import CATEGORY_LAYOUT, MVTecLayoutDataset, is_category


class Folder(MVTecLayoutDataset):
    """Each subfolder with the layout is a category; a root with the layout is itself the only category.

    Masks are optional; without masks no pixel metric is available.
    """

    name = "folder"
    title = "your own images"
    expected_layout = f"    <root>/<category>/           (or <root>/ itself, with one category)\n{CATEGORY_LAYOUT}"

    @classmethod
    def has_layout(cls, root: Path) -> bool:
        return is_category(root) or super().has_layout(root)

    def folder(self, category: str) -> Path:
        return self.root if self._is_single_category else self.root / category

    def _find_categories(self) -> list[str]:
        return [self.root.resolve().name] if self._is_single_category else super()._find_categories()

    @classmethod
    def _is_own_category(cls, folder: Path) -> bool:
        return is_category(folder)

    @property
    def _is_single_category(self) -> bool:
        return is_category(self.root)
