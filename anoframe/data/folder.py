"""Photographs of one's own, in the layout of MVTec AD."""

from __future__ import annotations

from pathlib import Path

from anoframe.data.layout import CATEGORY_TREE, LayoutDataset, is_category


class Folder(LayoutDataset):
    """Each sub-folder in that layout is a category; a root that is in that layout itself is the one category.

    Masks may be left out: then no pixel metric is available.
    """

    name = "folder"
    tree = f"    <root>/<category>/           (or <root>/ itself, with one category)\n{CATEGORY_TREE}"

    def folder(self, category: str) -> Path:
        return self.root if self._is_one_category else self.root / category

    def _find_categories(self) -> list[str]:
        return [self.root.resolve().name] if self._is_one_category else super()._find_categories()

    def _holds_category(self, folder: Path) -> bool:
        return is_category(folder)

    @property
    def _is_one_category(self) -> bool:
        return is_category(self.root)
