"""Misses and false alarms of a category: what its threshold decided about the test images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from anoframe.metrics.catalogue import METRICS
from anoframe.metrics.decisions import Decisions, count_decisions
from anoframe.types import GOOD


@dataclass(frozen=True)
class Outcomes:
    """Decisions of one category, by the names of `metrics.catalogue.DECISIONS`.

    Attributes:
        threshold: image score from which on an image is a defect.
        counts: right and wrong decisions.
    """

    threshold: float
    counts: Decisions

    @property
    def defects(self) -> int:
        """Number of defects in the test set."""
        return self.counts.hits + self.counts.misses

    @property
    def good(self) -> int:
        """Number of good test images."""
        return self.counts.false_alarms + self.counts.rejections

    def to_json(self) -> dict[str, float | None]:
        """Return counts and rates by name; a rate is None without an image that it could be a share of."""
        return {
            "misses": self.counts.misses,
            "miss_rate": self.counts.miss_rate(),
            "false_alarms": self.counts.false_alarms,
            "false_alarm_rate": self.counts.false_alarm_rate(),
        }

    def sentence(self) -> str:
        """Describe the decisions for the console.

        >>> Outcomes(0.5, Decisions(60, 3, 1, 19)).sentence()
        '3 of 63 defects missed, 1 of 20 good images a false alarm (at 0.5)'
        """
        alarms = f"{self.counts.false_alarms} of {self.good} good images a false alarm"
        return f"{self.counts.misses} of {self.defects} defects missed, {alarms} (at {self.threshold:.4g})"


def count_outcomes(result: Mapping[str, Any]) -> Outcomes | None:
    """Count the decisions of a category; None without a threshold.

    Args:
        result: content of `results/<category>.json`.
    """
    threshold = result.get("threshold")
    if not threshold:
        return None
    labels = np.array([image["defect"] != GOOD for image in result["images"]], bool)
    scores = np.array([image["score"] for image in result["images"]], np.float32)
    limit = float(np.float32(threshold["image"]))  # as `is_defect` compares
    return Outcomes(float(threshold["image"]), count_decisions(labels, scores, limit))


def mean_rates(outcomes: Mapping[str, Outcomes]) -> dict[str, float | None]:
    """Average the rates over the categories that have them. Counts have no mean: categories differ in size."""
    means: dict[str, float | None] = {}
    for name in ("miss_rate", "false_alarm_rate"):
        values = [value for each in outcomes.values() if (value := each.to_json()[name]) is not None]
        means[name] = sum(values) / len(values) if values else None
    return means


def decision_rows(outcomes: Mapping[str, Outcomes]) -> list[list[str]]:
    """Format the decisions as the rows of a console table: head, categories, and the mean rates of several."""

    def share(value: float | None) -> str:
        return "n/a" if value is None else f"{100 * value:.2f}"

    head = ["at the threshold", *(METRICS[name].title.lower() for name in ("misses", "miss_rate"))]
    head += [METRICS[name].title.lower() for name in ("false_alarms", "false_alarm_rate")] + ["threshold"]
    rows = [head]
    for category, each in outcomes.items():
        values = each.to_json()
        misses, alarms = f"{each.counts.misses} of {each.defects}", f"{each.counts.false_alarms} of {each.good}"
        cells = [misses, share(values["miss_rate"]), alarms, share(values["false_alarm_rate"])]
        rows.append([category, *cells, f"{each.threshold:.4g}"])
    if len(outcomes) > 1:
        means = mean_rates(outcomes)
        rows.append(["mean", "", share(means["miss_rate"]), "", share(means["false_alarm_rate"]), ""])
    return rows
