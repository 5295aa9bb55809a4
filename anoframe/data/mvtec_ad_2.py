"""MVTec AD 2 (Heckler-Kram et al., arXiv:2503.21622): eight objects under several lighting conditions.

The public test set is read. The private test sets have no labels, and the normal validation images are used neither for
training nor for testing. The only defect type is `bad`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from anoframe.data.dataset import Counts
from anoframe.data.loco import VALIDATION_REASON
from anoframe.data.mvtec_layout import TEST, TRAIN, MVTecLayoutDataset, index_folder
from anoframe.types import GOOD, Sample

MVTEC_AD_2_COUNTS = {
    "can": Counts(412, 72, 90),
    "fabric": Counts(387, 66, 90),
    "fruit_jelly": Counts(263, 20, 60),
    "rice": Counts(313, 42, 90),
    "sheet_metal": Counts(137, 24, 90),
    "vial": Counts(291, 35, 105),
    "wallplugs": Counts(293, 60, 90),
    "walnuts": Counts(432, 60, 90),
}

PUBLIC, PRIVATE = "test_public", ("test_private", "test_private_mixed")
BAD = "bad"


class MVTecAD2(MVTecLayoutDataset):
    """MVTec AD 2 as unpacked from the download."""

    name = "mvtec_ad_2"
    title = "MVTec AD 2"
    official_counts = MVTEC_AD_2_COUNTS
    expected_layout = f"""\
    <root>/can/                  (or fabric, fruit_jelly, ...)
      train/good/000_regular.png ...
      validation/good/000_regular.png ...               (not used)
      {PUBLIC}/good/000_regular.png ...
      {PUBLIC}/bad/000_regular.png ...
      {PUBLIC}/ground_truth/bad/000_regular_mask.png ...
      test_private/, test_private_mixed/                (without labels, not used)"""

    def mask_folder(self, category: str) -> Path:
        return self.folder(category) / PUBLIC / "ground_truth"

    def left_out(self, category: str) -> Mapping[str, Sequence[Path]]:
        folders = {"validation/good": VALIDATION_REASON}
        folders |= {name: f"of {name}, which has no labels" for name in PRIVATE}
        return {
            reason: [sample.image for sample in index_folder(self.folder(category) / name, category, name)]
            for name, reason in folders.items()
        }

    @classmethod
    def _is_own_category(cls, folder: Path) -> bool:
        return (folder / PUBLIC).is_dir()

    def _index(self, category: str) -> list[Sample]:
        folder = self.folder(category)
        return [
            *index_folder(folder / TRAIN / GOOD, category, TRAIN),
            *index_folder(folder / PUBLIC / BAD, category, TEST, BAD, self.mask_folder(category) / BAD),
            *index_folder(folder / PUBLIC / GOOD, category, TEST),
        ]
