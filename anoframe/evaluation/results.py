"""Metrics of a run: per category, their mean, and where they came from."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anoframe.errors import AnoframeError
from anoframe.evaluation.predictions import CategoryPredictions
from anoframe.metrics.catalogue import HEADLINE
from anoframe.metrics.families import metrics_at, metrics_of_each_image, metrics_of_images, metrics_of_pixels
from anoframe.utils.files import read_json, write_atomic, write_json
from anoframe.utils.type_check import matches_type

Metrics = dict[str, float | None]  # None: not available
CHOSEN_ON_TEST = "best on test"  # `selected` in the provenance of a run that reports its best look at the test images


def category_metrics(
    predictions: CategoryPredictions, aupro_limits: tuple[float, ...], pixel_thresholds: tuple[float, ...]
) -> Metrics:
    """Image and pixel metrics of a category; pixel metrics are not available where defects have no masks."""
    # 0.3 is what the name `aupro` means, so it is always there
    limits = (0.3, *(limit for limit in aupro_limits if limit != 0.3))
    masks, maps = predictions.masks, predictions.maps
    others = metrics_of_each_image(masks, maps) | metrics_at(masks, maps, pixel_thresholds)
    if not predictions.has_masks:
        others = dict.fromkeys(others)
    ranked = metrics_of_pixels(predictions.pixel_sweep, limits)
    return metrics_of_images(predictions.image_sweep) | ranked | others


@dataclass
class Results:
    """What `metrics.json` holds. Nothing in it differs between two equal runs."""

    categories: dict[str, Metrics] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, provenance: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str]
    ) -> Results:
        """Of what each evaluated category gave (`results/<category>.json`), and why others have nothing."""
        metrics = {category: dict(one["metrics"]) for category, one in found.items()}
        missing = {c: [name for name, value in one.items() if value is None] for c, one in metrics.items()}
        return cls(
            metrics,
            {
                **provenance,
                "backbone": next((one["backbone"] for one in found.values()), None),
                "counts": {category: one["counts"] for category, one in found.items()},
                "thresholds": {category: one["threshold"] for category, one in found.items()},
                "not_available": {category: names for category, names in missing.items() if names},
                "failed": dict(failed),
            },
        )

    @property
    def failed(self) -> dict[str, str]:
        """Category -> why it has no metrics."""
        return dict(self.provenance.get("failed", {}))

    @property
    def mean(self) -> Metrics:
        """Mean over the categories where a metric is available; None where it is in no category.

        Which categories a mean leaves out is in the provenance, under `not_available`.
        """
        names = [name for metrics in self.categories.values() for name in metrics]
        return {name: self._mean(name) for name in dict.fromkeys(names)}

    def _mean(self, name: str) -> float | None:
        values = [value for metrics in self.categories.values() if (value := metrics.get(name)) is not None]
        return sum(values) / len(values) if values else None

    def write(self, folder: Path) -> None:
        """`metrics.csv` and then `metrics.json`, both whole or not there."""
        write_atomic(folder / "metrics.csv", self.csv())
        tree = {"categories": self.categories, "mean": self.mean, "provenance": self.provenance}
        write_json(folder / "metrics.json", tree)

    @classmethod
    def read(cls, folder: Path) -> Results:
        """Raises AnoframeError where there is no `metrics.json`, and for one that is damaged."""
        path = folder / "metrics.json"
        tree = read_json(path)
        expected = {"categories": dict[str, dict[str, float | None]], "provenance": dict[str, Any]}
        for key, kind in expected.items():
            if not isinstance(tree, dict) or not matches_type(tree.get(key), kind):
                raise AnoframeError(f"{path} is damaged, its {key} cannot be read: test the checkpoint again")
        return cls(tree["categories"], tree["provenance"])

    def csv(self) -> str:
        """A row a category and one for the mean, full precision, empty where not available."""
        text = io.StringIO()
        names = list(self.mean)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["category", *names])
        for category, metrics in [*self.categories.items(), ("mean", self.mean)]:
            writer.writerow([category, *("" if metrics.get(n) is None else repr(metrics[n]) for n in names)])
        return text.getvalue()

    def table(self) -> str:
        """What the console shows at the end: percentages, with the mean where there are several categories."""
        rows = [["category", *HEADLINE]]
        rows += [[name, *(percent(metrics.get(key)) for key in HEADLINE)] for name, metrics in self.categories.items()]
        if len(self.categories) > 1:
            rows.append(["mean", *(percent(self.mean.get(key)) for key in HEADLINE)])
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(pairs))
            for pairs in (list(zip(row, widths, strict=True)) for row in rows)
        ]
        if self.provenance.get("selected") == CHOSEN_ON_TEST:
            lines.append("the epoch was chosen on the test set: better than a user gets")
        return "\n".join(lines)


def percent(value: float | None) -> str:
    """
    >>> percent(0.98765), percent(None), percent(-0.00001)
    ('98.77', 'n/a', '0.00')
    """
    return "n/a" if value is None else fixed(100 * value, 2)


def fixed(value: float, digits: int) -> str:
    """So many digits behind the point, and no `-0.0`.

    >>> fixed(-0.04, 1), fixed(-0.06, 1)
    ('0.0', '-0.1')
    """
    return f"{round(value, digits) + 0.0:.{digits}f}"
