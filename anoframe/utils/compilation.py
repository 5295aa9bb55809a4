"""`torch.compile` with deterministic kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def compile_deterministic(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function.

    `seed_everything` asks only torch's own kernels for determinism: asking the compiler imports it, which takes as long
    as torch itself.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.compile(function)
