"""Seeds and states of all random generators that a method may draw from."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, numpy and torch, and ask torch for deterministic kernels."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries draw from the global generator
    torch.manual_seed(seed)
    torch.set_deterministic_debug_mode("warn")  # a compiler is told by `compile_deterministic`
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it only costs time


def seed_generators(*numbers: int) -> None:
    """Seed the generators with a hash of `numbers`, whatever was drawn before."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries draw from the global generator
    torch.manual_seed(seed)


def random_states() -> dict[str, Any]:
    """States of the generators, as plain values and tensors."""
    name, keys, *numbers = np.random.get_state()  # noqa: NPY002 - libraries draw from the global generator
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *numbers],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Restore the result of `random_states`."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    for number in range(min(len(states["cuda"]), torch.cuda.device_count())):  # the machine may have fewer GPUs now
        torch.cuda.set_rng_state(states["cuda"][number], number)
