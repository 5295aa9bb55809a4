"""MVTec AD (Bergmann et al., CVPR 2019): ten objects and five textures, 5,354 images."""

from __future__ import annotations

from anoframe.data.dataset import Counts
from anoframe.data.mvtec_layout import CATEGORY_LAYOUT, MVTecLayoutDataset

MVTEC_COUNTS = {
    "bottle": Counts(209, 20, 63),
    "cable": Counts(224, 58, 92),
    "capsule": Counts(219, 23, 109),
    "carpet": Counts(280, 28, 89),
    "grid": Counts(264, 21, 57),
    "hazelnut": Counts(391, 40, 70),
    "leather": Counts(245, 32, 92),
    "metal_nut": Counts(220, 22, 93),
    "pill": Counts(267, 26, 141),
    "screw": Counts(320, 41, 119),
    "tile": Counts(230, 33, 84),
    "toothbrush": Counts(60, 12, 30),
    "transistor": Counts(213, 60, 40),
    "wood": Counts(247, 19, 60),
    "zipper": Counts(240, 32, 119),
}


class MVTec(MVTecLayoutDataset):
    """MVTec AD as unpacked from the download."""

    name = "mvtec"
    title = "MVTec AD"
    official_counts = MVTEC_COUNTS
    expected_layout = f"    <root>/bottle/               (or cable, capsule, ...)\n{CATEGORY_LAYOUT}"
