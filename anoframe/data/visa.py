"""VisA (Zou et al., ECCV 2022): twelve objects, 10,821 images, one-class split.

Two layouts are read: the original download, whose table `split_csv/1cls.csv` defines the split, and the copy in the
layout of MVTec AD that the script of the authors writes. The only defect type is `anomaly` in the first, `bad` in the
second.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from anoframe.data.dataset import Counts
from anoframe.data.mvtec_layout import CATEGORY_LAYOUT, MVTecLayoutDataset
from anoframe.errors import AnoframeError
from anoframe.types import GOOD, Sample

VISA_COUNTS = {
    "candle": Counts(900, 100, 100),
    "capsules": Counts(542, 60, 100),
    "cashew": Counts(450, 50, 100),
    "chewinggum": Counts(453, 50, 100),
    "fryum": Counts(450, 50, 100),
    "macaroni1": Counts(900, 100, 100),
    "macaroni2": Counts(900, 100, 100),
    "pcb1": Counts(904, 100, 100),
    "pcb2": Counts(901, 100, 100),
    "pcb3": Counts(905, 101, 100),
    "pcb4": Counts(904, 101, 100),
    "pipe_fryum": Counts(450, 50, 100),
}

COLUMNS = ("object", "split", "label", "image", "mask")


class VisA(MVTecLayoutDataset):
    """VisA in either layout; if a split table exists, it defines the split."""

    name = "visa"
    title = "VisA"
    official_counts = VISA_COUNTS
    expected_layout = f"""\
    <root>/split_csv/1cls.csv
    <root>/candle/Data/Images/Normal/0000.JPG ...
    <root>/candle/Data/Images/Anomaly/000.JPG ...
    <root>/candle/Data/Masks/Anomaly/000.png ...
    or the layout of MVTec AD
    <root>/candle/
{CATEGORY_LAYOUT}"""

    @classmethod
    def has_layout(cls, root: Path) -> bool:
        return (root / "split_csv" / "1cls.csv").is_file() or super().has_layout(root)

    def mask_folder(self, category: str) -> Path:
        if self._split_table is None:
            return super().mask_folder(category)
        return self.folder(category) / "Data" / "Masks"

    def _index(self, category: str) -> list[Sample]:
        if self._split_table is None:
            return super()._index(category)
        samples = [sample for sample in self._split_table if sample.category == category]
        return sorted(samples, key=lambda sample: (sample.split != "train", sample.image))

    @cached_property
    def _split_table(self) -> list[Sample] | None:
        """The samples of all rows of the split table, None without a table; an invalid row is an AnoframeError."""
        path = self.root / "split_csv" / "1cls.csv"
        if not path.is_file():
            return None
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                return list(self._parse_rows(csv.DictReader(file), path))
        except (UnicodeDecodeError, csv.Error) as error:
            raise AnoframeError(f"{path}: not a readable table ({error}); take it from the download again") from error

    def _parse_rows(self, reader: csv.DictReader[str], path: Path) -> Iterator[Sample]:
        missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            raise AnoframeError(f"{path}: no column {', '.join(missing)}; expected {','.join(COLUMNS)}")
        for row in reader:
            line = f"{path}, line {reader.line_num}"
            if row["split"] not in ("train", "test") or row["label"] not in ("normal", "anomaly") or not row["image"]:
                raise AnoframeError(f"{line}: expected split train or test, label normal or anomaly, and an image")
            if (row["split"], row["label"]) == ("train", "anomaly"):
                raise AnoframeError(
                    f"{line}: an anomaly in the train split; use the table of the one-class split, 1cls.csv"
                )
            defect = GOOD if row["label"] == "normal" else row["label"]
            mask = self.root / row["mask"] if row["mask"] else None
            yield Sample(self.root / row["image"], row["object"], row["split"], defect, mask)
