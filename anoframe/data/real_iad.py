"""Real-IAD (Wang et al., CVPR 2024): thirty objects, each photographed from five views.

A JSON file per category defines the split; each view of an object is a sample. The file names contain the view (`C1` to
`C5`). The defect types are the codes of the dataset (`AK` pit, `BX` deformation, ...). A view that does not show the
defect of its object lies in the folder of the defect, and the JSON file labels it as normal.

The download has several splits. `realiad_jsons` is the one of all views, 36465 training and 114585 test images of all
categories, 51329 of them with a defect; `realiad_jsons_sv` has only `C1`, the view from above. Counts per category are
not published. Source: README and configs of github.com/Tencent/AnomalyDetection_Real-IAD; the cards of copies on
Hugging Face give the same counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anoframe.data.dataset import Dataset
from anoframe.errors import AnoframeError
from anoframe.types import GOOD, Sample

JSONS = "realiad_jsons"
IMAGES = "realiad_*"  # realiad_256, realiad_512, realiad_1024
NORMAL = "OK"


class RealIAD(Dataset):
    """Real-IAD as unpacked from the download, at one resolution."""

    name = "real_iad"
    title = "Real-IAD"
    expected_layout = f"""\
    <root>/{JSONS}/audiojack.json ...                           (or <root>/{JSONS}_sv/ itself, for one view)
    <root>/realiad_1024/audiojack/OK/S0001/audiojack_0001_OK_C1_<time>.jpg ...
    <root>/realiad_1024/audiojack/NG/BX/S0001/audiojack_0001_NG_BX_C1_<time>.jpg ...
    (or <root>/realiad_1024/ itself, if there are several resolutions)"""

    def __init__(self, root: str | Path) -> None:
        given = Path(root)
        self._jsons = _find_json_folder(given)
        super().__init__(_find_image_root(given) if _is_json_folder(given) else given)

    @classmethod
    def has_layout(cls, root: Path) -> bool:
        return any(_find_json_folder(root).glob("*.json"))

    def folder(self, category: str) -> Path:
        return self._image_folder() / category

    def mask_folder(self, category: str) -> None:
        return None

    def _find_categories(self) -> list[str]:
        names = [path.stem for path in self._jsons.glob("*.json")]
        return [name for name in names if (self._image_folder() / name).is_dir()] if names else []

    def _image_folder(self) -> Path:
        if _is_image_folder(self.root):
            return self.root
        folders = sorted(path for path in self.root.glob(IMAGES) if _is_image_folder(path))
        if len(folders) > 1:
            standard = self._jsons == _find_json_folder(self.root)
            way_out = f"for example --data.root {folders[-1]}" if standard else f"move the others out of {self.root}"
            raise AnoframeError(
                f"dataset {self.name!r}: {self.root} holds {', '.join(folder.name for folder in folders)}: "
                f"choose one resolution, {way_out}"
            )
        return folders[0] if folders else self.root

    def _index(self, category: str) -> list[Sample]:
        path = self._jsons / f"{category}.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            samples = list(self._parse(content, category, path))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise AnoframeError(f"{path}: not a readable split ({error!r}); take it from the download again") from error
        return sorted(samples, key=lambda sample: (sample.split != "train", sample.image))

    def _parse(self, content: dict[str, Any], category: str, path: Path) -> Iterator[Sample]:
        folder = self.folder(category)
        normal = content.get("meta", {}).get("normal_class", NORMAL)
        for split in ("train", "test"):
            for entry in content[split]:
                defect = GOOD if entry["anomaly_class"] == normal else str(entry["anomaly_class"])
                if split == "train" and defect != GOOD:
                    raise AnoframeError(
                        f"{path}: {entry['image_path']} is a defect in the train split; use the files of {JSONS}, "
                        "whose train split is normal"
                    )
                mask = folder / entry["mask_path"] if defect != GOOD and entry.get("mask_path") else None
                yield Sample(folder / entry["image_path"], category, split, defect, mask)


def _is_image_folder(folder: Path) -> bool:
    return folder.is_dir() and folder.name.startswith("realiad_") and not folder.name.startswith(JSONS)


def _is_json_folder(folder: Path) -> bool:
    return folder.is_dir() and folder.name.startswith(JSONS)


def _find_json_folder(root: Path) -> Path:
    """Return the folder of the JSON files, which the download nests once more; it may not exist.

    Args:
        root: of the dataset, or of one resolution or split in it.
    """
    base = root.resolve().parent if _is_image_folder(root) else root
    folder = root if _is_json_folder(root) else base / JSONS
    nested = folder / JSONS
    return nested if nested.is_dir() else folder


def _find_image_root(jsons: Path) -> Path:
    """Return the folder with the images that belong to a folder of JSON files: its parent or the one above."""
    parents = jsons.resolve().parents[:2]
    return next((parent for parent in parents if any(map(_is_image_folder, parent.iterdir()))), parents[0])
