"""One side of `coreset_speed.py`: select a coreset from a file of features, print the time and a digest of it."""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

PROJECTED, START_POINTS = 128, 10


def ours(rows: np.ndarray, size: int) -> list[int]:
    from anoframe.models.patchcore.coreset import greedy_coreset, random_projection

    generator = torch.Generator().manual_seed(0)
    projected = random_projection(rows, PROJECTED, generator)
    return greedy_coreset(projected, size, "approximate", generator, START_POINTS).tolist()


def unprojected(rows: np.ndarray, size: int) -> list[int]:
    from anoframe.models.patchcore.coreset import greedy_coreset

    return greedy_coreset(rows, size, "approximate", torch.Generator().manual_seed(0), START_POINTS).tolist()


def plain(rows: np.ndarray, size: int) -> list[int]:
    """Plain loop with cached norms: one matrix-vector product per selected row."""
    projected, start_rows = _project(rows)
    norms = projected.square().sum(1)
    closest = torch.stack([(projected - projected[i]).norm(dim=1) for i in start_rows]).mean(0).square()
    picks = []
    for _ in range(size):
        pick = int(closest.argmax())
        picks.append(pick)
        new = torch.addmv(norms + norms[pick], projected, projected[pick], alpha=-2).clamp_(min=0)
        torch.minimum(closest, new, out=closest)
        closest[pick] = -1
    return picks


def brute(rows: np.ndarray, size: int) -> list[int]:
    """The definition: norms of differences in float64."""
    projected, start_rows = _project(rows)
    projected = projected.double()
    closest = torch.stack([(projected - projected[i]).norm(dim=1) for i in start_rows]).mean(0)
    picks = []
    for _ in range(size):
        picks.append(int(closest.argmax()))
        closest = torch.minimum(closest, (projected - projected[picks[-1]]).norm(dim=1))
    return picks


def _project(rows: np.ndarray) -> tuple[Tensor, list[int]]:
    """Return our projection of the rows, and the start rows that our side draws after it."""
    from anoframe.models.patchcore.coreset import random_projection

    generator = torch.Generator().manual_seed(0)
    projected = torch.as_tensor(random_projection(rows, PROJECTED, generator))
    return projected, torch.randperm(len(rows), generator=generator)[:START_POINTS].tolist()


def anomalib(rows: np.ndarray, size: int) -> list[int]:
    from anomalib.models.components.sampling import KCenterGreedy

    torch.manual_seed(0)
    features = torch.from_numpy(np.array(rows))
    return list(KCenterGreedy(features, (size + 0.5) / len(features)).select_coreset_idxs())


SIDES: dict[str, Callable[[np.ndarray, int], list[int]]] = {
    "ours": ours, "unprojected": unprojected, "plain": plain, "brute": brute, "anomalib": anomalib,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("features", type=Path)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--mapped", action="store_true", help="read the features from a memory map")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = np.load(options.features, mmap_mode="r" if options.mapped else None)
    select = SIDES[options.side]
    select(rows[:200], 5)  # warm-up: imports and one-time initialisation
    before = _status("VmRSS")
    started = time.perf_counter()
    picks = select(rows, options.size)
    seconds = time.perf_counter() - started
    digest = hashlib.sha256(np.array(picks).tobytes()).hexdigest()[:12]
    extra = f"{(_status('VmHWM') - before) / 1024:.0f}"
    print(json.dumps({"seconds": seconds, "picks": digest, "extra_mib": extra, "versions": _versions(options.side)}))


def _status(field: str) -> int:
    """Read a memory value of this process from /proc, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def _versions(side: str) -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", *(["anomalib"] if side == "anomalib" else []))}


if __name__ == "__main__":
    main()
