"""Cells of a table over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mean(values: Sequence[float]) -> str:
    """Mean and standard deviation; one seed has none."""
    return f"{np.mean(values):.2f}" + (f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else "")


def gain(differences: Sequence[float]) -> str:
    """Mean of differences seed by seed, and its standard error."""
    error = f" ± {np.std(differences, ddof=1) / len(differences) ** 0.5:.2f}" if len(differences) > 1 else ""
    return f"{np.mean(differences):+.2f}{error}"
