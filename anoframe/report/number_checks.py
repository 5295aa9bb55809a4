"""Numbers of a file that anybody may have changed: read, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from anoframe.evaluation.results import Metrics


def finite(value: Any) -> float:
    """The value as a number; ValueError for NaN and infinity."""
    number = float(value)
    if not isfinite(number):
        raise ValueError(f"{number} is not finite")
    return number


def finite_or_none(value: Any) -> float | None:
    """The same for what may be not available."""
    return None if value is None else finite(value)


def metrics_of(values: Mapping[str, Any]) -> Metrics:
    return {name: finite_or_none(value) for name, value in values.items()}
