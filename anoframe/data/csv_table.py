"""Images named by a CSV table, which may lie in any folders below the root."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from anoframe.data.dataset import Dataset
from anoframe.errors import AnoframeError
from anoframe.types import GOOD, Sample

COLUMNS = ("image", "category", "split", "label")  # and optionally mask
DELIMITERS = (",", ";", "\t")
NORMAL_LABELS = {"good", "ok", "normal", "nominal", "0"}
SPLITS = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}


class _Row(NamedTuple):
    sample: Sample  # of split train, test or val
    line: str


class CsvTable(Dataset):
    """Samples of a table with the columns image, category, split, label and optionally mask.

    Paths are relative to the folder of the table. The root is that folder, if it contains one table, or the table.
    Delimiters are commas, semicolons or tabs.
    """

    name = "csv"
    title = "a table of images"
    expected_layout = """\
    <root>/<any name>.csv        (or the file itself as --data.root)
      image,category,split,label,mask
      photos/1.png,cap,train,good,
      photos/7.png,cap,test,good,
      photos/9.png,cap,test,scratch,masks/9.png
    Paths are relative to the folder of the table; split is train, test or val (not used); label is good (also ok,
    normal, nominal, 0) or a defect type; the column mask may be missing."""

    @classmethod
    def has_layout(cls, root: Path) -> bool:
        return bool(_find_tables(root))

    def __init__(self, root: str | Path) -> None:
        root = Path(root)
        self._table: Path | None = root if root.is_file() and root.suffix.lower() == ".csv" else None
        super().__init__(root.parent if self._table else root)

    def folder(self, category: str) -> Path:
        return self.root

    def mask_folder(self, category: str) -> None:
        return None

    def left_out(self, category: str) -> Mapping[str, Sequence[Path]]:
        samples = [row.sample for row in self._rows if row.sample.category == category and row.sample.split == "val"]
        return {
            "of split val, used neither for training nor for testing": [sample.image for sample in samples],
            "that are masks of split val": [sample.mask for sample in samples if sample.mask],
        }

    def files_of_other_categories(self, category: str) -> list[Path]:
        samples = [row.sample for row in self._rows if row.sample.category != category]
        return [path for sample in samples for path in (sample.image, sample.mask) if path]

    def _find_categories(self) -> list[str]:
        if self._table is None:
            tables = _find_tables(self.root)
            if len(tables) > 1:
                names = ", ".join(path.name for path in tables)
                raise AnoframeError(
                    f"dataset {self.name!r}: {self.root} holds several tables, {names}: choose one, for example "
                    f"--data.root {tables[0]}"
                )
            if not tables:
                return []
            self._table = tables[0]
        return list(dict.fromkeys(row.sample.category for row in self._rows))

    def _index(self, category: str) -> list[Sample]:
        samples = [row.sample for row in self._rows if row.sample.category == category]
        for split in ("train", "test"):
            if all(sample.split != split for sample in samples):
                raise AnoframeError(f"{self._table}: no row of category {category!r} has split {split}; add its images")
        used = (sample for sample in samples if sample.split != "val")
        return sorted(used, key=lambda sample: (sample.split != "train", sample.image))

    @cached_property
    def _rows(self) -> list[_Row]:
        """All rows of the table; an invalid one is an AnoframeError."""
        path = self._table
        assert path is not None
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.reader(file, delimiter=_delimiter(path))
                header = [cell.strip().lower() for cell in next(reader, [])]
                missing = [column for column in COLUMNS if column not in header]
                if missing:
                    raise AnoframeError(f"{path}: no column {', '.join(missing)}; expected {','.join(COLUMNS)},mask")
                rows = list(self._parse_rows(reader, header, path))
        except (UnicodeDecodeError, csv.Error) as error:
            raise AnoframeError(f"{path}: not a readable table ({error}); save it as CSV in UTF-8") from error
        first_lines: dict[Path, str] = {}
        for row in rows:
            if row.sample.image in first_lines:
                first = first_lines[row.sample.image]
                raise AnoframeError(f"{row.line}: {row.sample.image} is in {first} as well; remove one of the two rows")
            first_lines[row.sample.image] = row.line.rpartition(", ")[2]
        return rows

    def _parse_rows(self, reader: Iterator[list[str]], header: list[str], path: Path) -> Iterator[_Row]:
        for cells in reader:
            line = f"{path}, line {reader.line_num}"  # type: ignore[attr-defined]
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) > len(header):
                raise AnoframeError(
                    f"{line}: {len(cells)} cells, but {len(header)} columns; quote a cell that contains the delimiter"
                )
            row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
            empty = [column for column in COLUMNS if not row.get(column)]
            if empty:
                raise AnoframeError(f"{line}: no {', '.join(empty)}; fill in {','.join(COLUMNS)}")
            split = SPLITS.get(row["split"].lower())
            if split is None:
                raise AnoframeError(f"{line}: split {row['split']!r}; expected train, test or val")
            if "/" in row["category"] or row["category"] in (".", ".."):
                raise AnoframeError(f"{line}: category {row['category']!r} is no name of a folder; write it without /")
            defect = GOOD if row["label"].lower() in NORMAL_LABELS else row["label"]
            if split == "train" and defect != GOOD:
                raise AnoframeError(
                    f"{line}: label {defect!r} in split train; training images are normal: move the row to split test, "
                    f"or write label {GOOD}"
                )
            mask = self._path(row["mask"]) if row.get("mask") else None
            yield _Row(Sample(self._path(row["image"]), row["category"], split, defect, mask), line)

    def _path(self, cell: str) -> Path:
        return self.root / cell.replace("\\", "/")


def _find_tables(root: Path) -> list[Path]:
    """List the CSV files of a folder whose header has the columns."""
    return [
        path
        for path in sorted(root.glob("*.[cC][sS][vV]"))
        if path.is_file() and set(COLUMNS) <= {cell.strip().lower() for cell in _header(path).split(_delimiter(path))}
    ]


def _header(path: Path) -> str:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline(10_000).replace('"', "")


def _delimiter(path: Path) -> str:
    header = _header(path)
    return max(DELIMITERS, key=header.count)
