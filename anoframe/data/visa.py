"""VisA (Zou et al., ECCV 2022): twelve objects, 10,821 images, one-class split.

Two layouts are read: the original download, whose `split_csv/1cls.csv` says what is trained on, and the copy in the
layout of MVTec AD that the authors' script makes. The one defect type is `anomaly` in the first, `bad` in the second.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from anoframe.data.dataset import Counts
from anoframe.data.layout import CATEGORY_TREE, LayoutDataset
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


class VisA(LayoutDataset):
    """VisA in either layout; the split table decides where there is one. Missing categories are in `absent`."""

    name = "visa"
    official_counts = VISA_COUNTS
    tree = f"""\
    <root>/split_csv/1cls.csv
    <root>/candle/Data/Images/Normal/0000.JPG ...
    <root>/candle/Data/Images/Anomaly/000.JPG ...
    <root>/candle/Data/Masks/Anomaly/000.png ...
    or the layout of MVTec AD
    <root>/candle/
{CATEGORY_TREE}"""

    def _index(self, category: str) -> list[Sample]:
        if self._table is None:
            return super()._index(category)
        found = [sample for sample in self._table if sample.category == category]
        return sorted(found, key=lambda sample: (sample.split != "train", sample.image))

    def mask_folder(self, category: str) -> Path:
        return super().mask_folder(category) if self._table is None else self.folder(category) / "Data" / "Masks"

    @cached_property
    def _table(self) -> list[Sample] | None:
        """Every row of the split table, or None without one. Raises AnoframeError, naming the line, for a bad row."""
        path = self.root / "split_csv" / "1cls.csv"
        if not path.is_file():
            return None
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                return list(self._rows(csv.DictReader(file), path))
        except (UnicodeDecodeError, csv.Error) as error:
            raise AnoframeError(f"{path}: not a readable table ({error}); take it from the download again") from error

    def _rows(self, reader: csv.DictReader[str], path: Path) -> Iterator[Sample]:
        missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            raise AnoframeError(f"{path}: no column {', '.join(missing)}; expected {','.join(COLUMNS)}")
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if row["split"] not in ("train", "test") or row["label"] not in ("normal", "anomaly") or not row["image"]:
                raise AnoframeError(f"{where}: expected split train or test, label normal or anomaly, and an image")
            if (row["split"], row["label"]) == ("train", "anomaly"):
                raise AnoframeError(f"{where}: an anomaly to train on; this is not the one-class split 1cls.csv")
            defect = GOOD if row["label"] == "normal" else row["label"]
            mask = self.root / row["mask"] if row["mask"] else None
            yield Sample(self.root / row["image"], row["object"], row["split"], defect, mask)
