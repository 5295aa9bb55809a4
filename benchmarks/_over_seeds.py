"""Format table cells over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mean(values: Sequence[float]) -> str:
    """Format mean and standard deviation; a single value has no deviation."""
    return f"{np.mean(values):.2f}" + (f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else "")


def gain(differences: Sequence[float]) -> str:
    """Format the mean of per-seed differences with its standard error."""
    error = f" ± {np.std(differences, ddof=1) / len(differences) ** 0.5:.2f}" if len(differences) > 1 else ""
    return f"{np.mean(differences):+.2f}{error}"
