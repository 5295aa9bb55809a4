"""Results of a run: per-category metrics, their mean, and their provenance."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anoframe.errors import AnoframeError
from anoframe.evaluation.disclosure import (
    HELD_OUT,
    csv_cells,
    csv_columns,
    held_out_text,
    list_sentences,
    sum_held_out,
)
from anoframe.evaluation.outcomes import Outcomes, count_outcomes, decision_rows, mean_rates
from anoframe.evaluation.predictions import CategoryPredictions
from anoframe.metrics.aupro import STANDARD_LIMIT
from anoframe.metrics.auroc import auroc
from anoframe.metrics.catalogue import DECISIONS, HEADLINE
from anoframe.metrics.category_metrics import (
    image_metrics_from_sweep,
    metrics_at_thresholds,
    per_image_metrics,
    pixel_metrics_from_sweep,
)
from anoframe.utils.files import read_json, write_atomic, write_json
from anoframe.utils.type_check import matches_type

Metrics = dict[str, float | None]  # None: not available
_THRESHOLD = dict[str, float | list[str] | None] | None
CHOSEN_ON_TEST = "best on test"  # value of `selected` in the provenance if the epoch was chosen on the test images
_FILE = {"categories": dict[str, dict[str, float | None]], "provenance": dict[str, Any]}  # keys of metrics.json


def category_metrics(
    predictions: CategoryPredictions, aupro_limits: tuple[float, ...], pixel_thresholds: tuple[float, ...]
) -> Metrics:
    """Compute the image and pixel metrics of a category.

    Pixel metrics are None if a defect lacks its mask, or if the method scores images only. Each extra score adds
    `image_auroc_<name>`.

    Args:
        predictions: of the test images.
        aupro_limits, pixel_thresholds: as for `metrics.pixel_metrics`; the limit 0.3 is always included.
    """
    limits = (STANDARD_LIMIT, *(limit for limit in aupro_limits if limit != STANDARD_LIMIT))
    masks, counted = predictions.masks, predictions.counted
    maps = np.zeros(masks.shape, np.float32) if predictions.maps is None else predictions.maps
    others = per_image_metrics(masks, maps, counted)
    pixels = (masks, maps) if counted is None else (masks[counted], maps[counted])
    others |= metrics_at_thresholds(*pixels, pixel_thresholds)
    if not predictions.has_masks or predictions.maps is None:
        others = dict.fromkeys(others)
    ranked = pixel_metrics_from_sweep(predictions.pixel_sweep, limits)
    extra = {f"image_auroc_{name}": auroc(predictions.labels, s) for name, s in predictions.extra_scores.items()}
    return image_metrics_from_sweep(predictions.image_sweep) | ranked | others | extra


@dataclass
class Results:
    """Content of `metrics.json`; it is the same for two runs with the same config, data and versions.

    Attributes:
        categories: per-category metrics.
        provenance: config, data, versions, counts, thresholds, and categories that failed.
        decisions: misses and false alarms of each category with a threshold; they are in `metrics.csv` and follow from
            `results/<category>.json`.
    """

    categories: dict[str, Metrics] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    decisions: dict[str, Outcomes] = field(default_factory=dict)

    @classmethod
    def from_categories(
        cls, provenance: Mapping[str, Any], evaluated: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str]
    ) -> Results:
        """Combine the results of categories.

        Args:
            provenance: of the run.
            evaluated: category -> content of `results/<category>.json`.
            failed: category -> why it has no metrics.
        """
        metrics = {category: dict(result["metrics"]) for category, result in evaluated.items()}
        missing = {
            category: [name for name, value in values.items() if value is None] for category, values in metrics.items()
        }
        return cls(
            metrics,
            {
                **provenance,
                "backbone": next((result["backbone"] for result in evaluated.values()), None),
                "counts": {category: result["counts"] for category, result in evaluated.items()},
                "thresholds": {category: result["threshold"] for category, result in evaluated.items()},
                "not_available": {category: names for category, names in missing.items() if names},
                "failed": dict(failed),
            },
            _decisions(evaluated),
        )

    @property
    def failed(self) -> dict[str, str]:
        """Category -> why it has no metrics."""
        return dict(self.provenance.get("failed", {}))

    @property
    def mean(self) -> Metrics:
        """Mean over the categories in which a metric is available; None if it is available in none.

        `not_available` of the provenance lists the categories that a mean leaves out.
        """
        names = [name for metrics in self.categories.values() for name in metrics]
        return {name: self._mean(name) for name in dict.fromkeys(names)}

    @property
    def mean_decisions(self) -> Metrics:
        """Mean rates of misses and false alarms; empty without a threshold."""
        return mean_rates(self.decisions) if self.decisions else {}

    def _mean(self, name: str) -> float | None:
        values = [value for metrics in self.categories.values() if (value := metrics.get(name)) is not None]
        return sum(values) / len(values) if values else None

    def write(self, folder: Path) -> None:
        """Write `metrics.csv`, then `metrics.json`, each atomically."""
        write_atomic(folder / "metrics.csv", self.csv())
        tree: dict[str, Any] = {"categories": self.categories, "mean": self.mean}
        tree |= {key: self.provenance[key] for key in ("protocol_tag", "held_out") if key in self.provenance}
        tree["provenance"] = self.provenance
        write_json(folder / "metrics.json", tree)

    @classmethod
    def read(cls, folder: Path) -> Results:
        """Read `metrics.json`; raises AnoframeError if it is missing or damaged."""
        path = folder / "metrics.json"
        tree = read_json(path)
        for key, kind in _FILE.items():
            if not isinstance(tree, dict) or not matches_type(tree.get(key), kind):
                raise AnoframeError(f"{path} is damaged, its {key} cannot be read: test the checkpoint again")
        results = cls(tree["categories"], tree["provenance"])
        results.decisions = _decisions(_stored_results(folder, results.categories))
        return results

    def csv(self) -> str:
        """Format as CSV: one row per category and one for the mean, full precision, empty where not available.

        Where a category has a threshold, misses and false alarms follow the metrics; only their rates have a mean.
        Protocol tag, held-out counts and notes are the last columns, if there are any.
        """
        text = io.StringIO()
        names = list(self.mean)
        writer = csv.writer(text, lineterminator="\n")
        decided = [*DECISIONS, "threshold"] if self.decisions else []
        writer.writerow(["category", *names, *decided, *csv_columns(self.provenance)])
        rows: list[tuple[str | None, Metrics]] = [*self.categories.items(), (None, self.mean)]
        for category, metrics in rows:
            cells = ["" if metrics.get(name) is None else repr(metrics[name]) for name in names]
            values = self.mean_decisions if category is None else self._csv_decisions(category)
            cells += ["" if values.get(name) is None else repr(values[name]) for name in decided]
            more = csv_cells(self.provenance, category, csv_columns(self.provenance))
            writer.writerow(["mean" if category is None else category, *cells, *more])
        return text.getvalue()

    def _csv_decisions(self, category: str) -> Metrics:
        outcomes = self.decisions.get(category)
        return outcomes.to_json() | {"threshold": outcomes.threshold} if outcomes else {}

    def table(self) -> str:
        """Format the headline metrics in percent for the console, with the mean of several categories.

        Misses and false alarms follow in a table of their own, if there is a threshold.
        Protocol tag, held-out counts and notes follow, if there are any.
        """
        rows = [["category", *HEADLINE]]
        rows += [[name, *(percent(metrics.get(key)) for key in HEADLINE)] for name, metrics in self.categories.items()]
        if len(self.categories) > 1:
            rows.append(["mean", *(percent(self.mean.get(key)) for key in HEADLINE)])
        if held_out := self.provenance.get("held_out"):
            total = sum_held_out(held_out.values())
            rows = [[*row, held_out_text(held_out.get(row[0], total))] for row in rows]
            rows[0][-1] = HELD_OUT
        lines = _align(rows)
        if self.decisions:
            lines += ["", *_align(decision_rows(self.decisions)), ""]
        if self.provenance.get("selected") == CHOSEN_ON_TEST:
            lines.append("the epoch was chosen on the test set: these values are too good for new images")
        lines += list_sentences(self.provenance)
        return "\n".join(lines)


def _decisions(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Outcomes]:
    """Count the decisions of the categories that have a threshold."""
    counted = {category: count_outcomes(result) for category, result in results.items()}
    return {category: outcomes for category, outcomes in counted.items() if outcomes}


def _stored_results(folder: Path, categories: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Read `results/<category>.json` of a run, as far as they are there and whole: metrics do not depend on them."""
    results = {}
    for category in categories:
        with suppress(AnoframeError):
            tree = read_json(folder / "results" / f"{category}.json")
            if isinstance(tree, dict) and matches_type(tree.get("threshold"), _THRESHOLD) and _has_scores(tree):
                results[category] = tree
    return results


def _has_scores(tree: Mapping[str, Any]) -> bool:
    rows = tree.get("images")
    return matches_type(rows, list[dict[str, Any]]) and all(
        matches_type(row.get("score"), float) and matches_type(row.get("defect"), str) for row in rows or ()
    )


def _align(rows: list[list[str]]) -> list[str]:
    """Pad the cells of each column to the same width: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def percent(value: float | None) -> str:
    """Format a share in percent with two decimals.

    >>> percent(0.98765), percent(None), percent(-0.00001)
    ('98.77', 'n/a', '0.00')
    """
    return "n/a" if value is None else fixed(100 * value, 2)


def fixed(value: float, digits: int) -> str:
    """Format a number with `digits` decimals, without a negative zero.

    >>> fixed(-0.04, 1), fixed(-0.06, 1)
    ('0.0', '-0.1')
    """
    return f"{round(value, digits) + 0.0:.{digits}f}"
