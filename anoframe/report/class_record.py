"""What a stream measured on images of all seen classes together, read from `results/continual.json` and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anoframe.report.number_checks import finite, finite_or_none

Novelty = dict[str, dict[str, float | None]]  # confidence -> metric -> value


@dataclass(frozen=True)
class ReliabilityPoint:
    """A bin of a reliability diagram that has images."""

    low: float
    high: float
    images: int
    accuracy: float
    confidence: float


@dataclass(frozen=True)
class ExemplarStrip:
    """A picture of the first exemplars of a class."""

    name: str
    path: Path
    shown: int
    images: int


@dataclass(frozen=True)
class ClassRecord:
    """Lists have one entry per row of the stream, or are empty where the file has none.

    Attributes:
        top1, top1_mixed, ece: shares of 1.
        novelty: None where no later class is left.
        exemplar_images, exemplar_bytes: size of the memory.
        classes, confusion: after the last row: names, and the number of images [true class][predicted class].
        reliability: after the last row.
        strips: pictures of exemplars.
    """

    top1: list[float | None]
    ece: list[float | None]
    novelty: list[Novelty | None]
    top1_mixed: list[float | None] = field(default_factory=list)
    exemplar_images: list[int] = field(default_factory=list)
    exemplar_bytes: list[int] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)
    reliability: list[ReliabilityPoint] = field(default_factory=list)
    strips: list[ExemplarStrip] = field(default_factory=list)


def read_class_record(tree: Mapping[str, Any]) -> ClassRecord | None:
    """Read the keys of a classifier of images; None for another stream.

    Raises:
        KeyError, TypeError, ValueError or AttributeError if they are damaged.
    """
    if "classification" not in tree:
        return None
    rows = [dict(row) for row in tree["classification"]]
    exemplars = [dict(row) for row in tree.get("exemplars", [])]
    last = rows[-1] if rows else {}
    record = ClassRecord(
        top1=[finite_or_none(value) for value in tree["category_top1"]],
        ece=[finite_or_none(value) for value in tree["ece"]],
        novelty=[None if row is None else _novelty(row) for row in tree["novelty"]],
        top1_mixed=[finite_or_none(row.get("top1_mixed")) for row in rows],
        exemplar_images=[int(finite(row["images"])) for row in exemplars],
        exemplar_bytes=[int(finite(row["bytes"])) for row in exemplars],
        classes=[str(name) for name in last.get("classes", [])],
        confusion=[[int(finite(value)) for value in row] for row in last.get("confusion", [])],
        reliability=[_point(row) for row in last.get("reliability", []) if row["images"]],
    )
    sizes = {len(record.top1), len(record.ece), len(record.novelty), len(rows)}
    if len(sizes) != 1 or [len(row) for row in record.confusion] != [len(record.classes)] * len(record.classes):
        raise ValueError("the lists over tasks, or the confusion matrix, have another size than the stream")
    return record


def _novelty(row: Mapping[str, Any]) -> Novelty:
    return {
        str(name): {str(key): finite_or_none(value) for key, value in values.items()} for name, values in row.items()
    }


def _point(row: Mapping[str, Any]) -> ReliabilityPoint:
    low, high, accuracy, confidence = (finite(row[name]) for name in ("low", "high", "accuracy", "confidence"))
    if not (0 <= low < high <= 1 and 0 <= accuracy <= 1 and 0 <= confidence <= 1 + 1e-9):
        raise ValueError("a bin of the reliability diagram leaves the unit square")
    return ReliabilityPoint(low, high, int(finite(row["images"])), accuracy, min(confidence, 1.0))
