"""MVTec LOCO AD (Bergmann et al., IJCV 2022): five objects with logical and structural anomalies.

The layout is that of MVTec AD, with a folder of masks for each defective image, one file per defect, and normal
validation images, which are used neither for training nor for testing. `defects_config.json` of a category gives the
area at which each defect counts as found (`anoframe.metrics.spro`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anoframe.data.dataset import Counts
from anoframe.data.image_decoding import open_image
from anoframe.data.masks import Mask, mask_files
from anoframe.data.mvtec_layout import TEST, MVTecLayoutDataset, index_folder
from anoframe.errors import AnoframeError
from anoframe.types import Sample

LOCO_COUNTS = {
    "breakfast_box": Counts(351, 102, 173),
    "juice_bottle": Counts(335, 94, 236),
    "pushpins": Counts(372, 138, 172),
    "screw_bag": Counts(360, 122, 219),
    "splicing_connectors": Counts(360, 119, 193),
}

SATURATION = "defects_config.json"
VALIDATION_REASON = "of validation/good, used neither for training nor for testing"
_KEYS = ("pixel_value", "saturation_threshold", "relative_saturation")


class Loco(MVTecLayoutDataset):
    """MVTec LOCO AD as unpacked from the download."""

    name = "loco"
    title = "MVTec LOCO"
    official_counts = LOCO_COUNTS
    defect_kinds = {"logical": "logical_anomalies", "structural": "structural_anomalies"}  # noqa: RUF012
    has_saturation_areas = True
    expected_layout = f"""\
    <root>/breakfast_box/        (or juice_bottle, pushpins, screw_bag, splicing_connectors)
      {SATURATION}
      train/good/000.png ...
      validation/good/000.png ...                       (not used)
      test/good/000.png ...
      test/logical_anomalies/000.png ...
      test/structural_anomalies/000.png ...
      ground_truth/logical_anomalies/000/000.png ...    (one file per defect of the image)"""

    @classmethod
    def _is_own_category(cls, folder: Path) -> bool:
        marks = (SATURATION, f"{TEST}/logical_anomalies", f"{TEST}/structural_anomalies")
        return any((folder / mark).exists() for mark in marks)

    def left_out(self, category: str) -> Mapping[str, Sequence[Path]]:
        validation = index_folder(self.folder(category) / "validation" / "good", category, "validation")
        return {VALIDATION_REASON: [sample.image for sample in validation]}

    def notes(self, category: str) -> list[str]:
        try:
            _read_thresholds(self.folder(category) / SATURATION)
        except AnoframeError as error:
            return [*super().notes(category), f"sPRO is not available: {error}"]
        return super().notes(category)

    def regions(self, sample: Sample) -> list[tuple[Mask, float]]:
        """Read the regions of a sample and their saturation areas, as `anoframe.metrics.auspro` takes them.

        Returns:
            list: one mask [H, W] and area in pixels for each mask file, at the size of the original image.

        Raises:
            AnoframeError: `defects_config.json` is missing, damaged or lacks the value of a mask; a mask in colour.
        """
        if sample.mask is None:
            return []
        path = self.folder(sample.category) / SATURATION
        thresholds = _read_thresholds(path)
        regions = []
        for file in mask_files(sample.mask):
            with open_image(file) as image:
                values: NDArray[np.integer] = np.asarray(image)
            if values.ndim != 2:
                raise AnoframeError(
                    f"{file}: a mask in colour; the masks of the download are greyscale, with one value"
                )
            present = sorted(int(value) for value in np.unique(values) if value)
            if len(present) != 1 or present[0] not in thresholds:
                raise AnoframeError(
                    f"{file}: holds the values {present}; expected one of {sorted(thresholds)} in {path}"
                )
            area = int(np.count_nonzero(values))
            threshold, is_relative = thresholds[present[0]]
            saturation = int(threshold * area) if is_relative else min(threshold, area)
            regions.append((values != 0, float(max(1, saturation))))
        return regions


def _read_thresholds(path: Path) -> dict[int, tuple[float, bool]]:
    """Read value of a mask -> saturation threshold, and whether it is a share of the area of the region."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {
            int(entry["pixel_value"]): (float(entry["saturation_threshold"]), bool(entry["relative_saturation"]))
            for entry in entries
        }
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise AnoframeError(
            f"{path}: no readable list of entries with {', '.join(_KEYS)} ({error!r}); take it from the download again"
        ) from error
