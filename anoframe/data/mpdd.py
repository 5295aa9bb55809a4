"""MPDD, metal parts defect detection (Jezek et al., ICUMT 2021): six metal parts, 1,346 images."""

from __future__ import annotations

from anoframe.data.dataset import Counts
from anoframe.data.mvtec_layout import CATEGORY_LAYOUT, MVTecLayoutDataset

MPDD_COUNTS = {
    "bracket_black": Counts(289, 32, 47),
    "bracket_brown": Counts(185, 26, 51),
    "bracket_white": Counts(110, 30, 30),
    "connector": Counts(128, 30, 14),
    "metal_plate": Counts(54, 26, 71),
    "tubes": Counts(122, 32, 69),
}


class MPDD(MVTecLayoutDataset):
    """MPDD as unpacked from the download, in the layout of MVTec AD."""

    name = "mpdd"
    title = "MPDD"
    official_counts = MPDD_COUNTS
    expected_layout = f"    <root>/bracket_black/        (or bracket_brown, connector, ...)\n{CATEGORY_LAYOUT}"
