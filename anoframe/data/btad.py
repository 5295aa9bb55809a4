"""BTAD, beanTech anomaly detection (Mishra et al., ISIE 2021): three industrial products.

Normal images are in folders `ok`, defects in folders `ko`, which is the only defect type.
"""

from __future__ import annotations

from pathlib import Path

from anoframe.data.dataset import Counts
from anoframe.data.mvtec_layout import MASKS, TEST, TRAIN, MVTecLayoutDataset, index_folder
from anoframe.types import Sample

BTAD_COUNTS = {"01": Counts(400, 21, 49), "02": Counts(399, 30, 200), "03": Counts(1000, 400, 41)}

OK, KO = "ok", "ko"


class BTAD(MVTecLayoutDataset):
    """BTAD as unpacked from the download; eleven of its defects have an empty mask."""

    name = "btad"
    title = "BTAD"
    official_counts = BTAD_COUNTS
    empty_masks_published = True
    expected_layout = """\
    <root>/01/                   (or 02, 03)
      train/ok/0000.bmp ...
      test/ok/0000.bmp ...
      test/ko/0000.bmp ...
      ground_truth/ko/0000.png ..."""

    @classmethod
    def _is_own_category(cls, folder: Path) -> bool:
        return folder.name in cls.official_counts and (folder / TRAIN / OK).is_dir()

    def _index(self, category: str) -> list[Sample]:
        folder = self.folder(category)
        return [
            *index_folder(folder / TRAIN / OK, category, TRAIN),
            *index_folder(folder / TEST / KO, category, TEST, KO, folder / MASKS / KO),
            *index_folder(folder / TEST / OK, category, TEST),
        ]
