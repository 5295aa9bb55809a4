"""Checked reading of numbers from files that anybody may have edited."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from anoframe.evaluation.results import Metrics


def finite(value: Any) -> float:
    """Return the value as a float. Raises ValueError for NaN, infinity and text that is no number."""
    number = float(value)
    if not isfinite(number):
        raise ValueError(f"{number} is not finite")
    return number


def finite_or_none(value: Any) -> float | None:
    """Return the value as a float; None stays None ("not available")."""
    return None if value is None else finite(value)


def read_metrics(values: Mapping[str, Any]) -> Metrics:
    """Return metrics (name -> value or None) with every value checked."""
    return {name: finite_or_none(value) for name, value in values.items()}
