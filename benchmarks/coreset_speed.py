"""Speed of the greedy coreset, compared with anomalib and a plain loop, also on a memory-mapped file.

    python benchmarks/coreset_speed.py --anomalib-python PY

Three cases. `small`: 20,000 x 1024 in clusters at 10 %; anoframe and anomalib use their own projections, the plain loop
and the brute force use ours. `large`: 204,800 x 152 at 1 %, the patches of 200 images of 256 pixels; `--long-peer` runs
anomalib to the end (ten minutes), otherwise 102 of its 2048 selections are timed, each of which costs the same.
`mapped`: 300,000 x 1024 at 1 % from a memory map, with and without projection. Expected: benchmarks/README.md. Linux
only.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from _rounds import Side, run_alternately, table, write_section

SIDE = str(Path(__file__).with_name("_coreset_side.py"))
EXTRA = {"extra MiB": "extra_mib", "picks": "picks"}


def clusters(path: Path, rows: int, width: int) -> Path:
    """Write rows around 200 centres that are twice as far apart as the rows of a cluster, block by block."""
    rng = np.random.default_rng(0)
    centres = 2 * rng.standard_normal((200, width), np.float32)
    out = np.lib.format.open_memmap(path, "w+", np.float32, (rows, width))
    for start in range(0, rows, 10_000):
        block = out[start : start + 10_000]
        block[:] = centres[rng.integers(200, size=len(block))] + rng.standard_normal(block.shape, np.float32)
    out.flush()
    return path


def side(name: str, python: str, kind: str, features: Path, size: int, *more: str) -> Side:
    return Side(name, [python, SIDE, kind, str(features), "--size", str(size), *more])


def small(options: argparse.Namespace, folder: Path) -> str:
    features = clusters(folder / "small.npy", 20_000, 1024)
    sides = [
        side("anoframe", sys.executable, "ours", features, 2000),
        side("plain loop, float32", sys.executable, "plain", features, 2000),
        side("anomalib", options.anomalib_python, "anomalib", features, 2000),
    ]
    brute = side("brute force, float64", sys.executable, "brute", features, 2000)
    brute.run(options.threads)  # one round: it is the reference of the selected rows
    run_alternately(sides, options.rounds, options.threads)
    return f"**20,000 x 1024 in clusters, 10 %**\n\n{table([*sides, brute], EXTRA)}"


def large(options: argparse.Namespace, folder: Path) -> str:
    features = clusters(folder / "large.npy", 204_800, 152)
    sides = [side("anoframe", sys.executable, "ours", features, 2048)]
    if options.long_peer:
        sides.append(side("anomalib", options.anomalib_python, "anomalib", features, 2048))
    else:
        sides.append(side("anomalib, 102 of 2048 picks", options.anomalib_python, "anomalib", features, 102))
    run_alternately(sides, options.rounds, options.threads)
    note = "" if options.long_peer else "\n\nEach selection of anomalib costs the same: multiply by 20 for all."
    return f"**204,800 x 152, 1 %**\n\n{table(sides, EXTRA)}{note}"


def mapped(options: argparse.Namespace, folder: Path) -> str:
    features = clusters(folder / "mapped.npy", 300_000, 1024)
    sides = [
        side("anoframe, projected", sys.executable, "ours", features, 3000, "--mapped"),
        side("anoframe, all 1024 dimensions", sys.executable, "unprojected", features, 3000, "--mapped"),
    ]
    run_alternately(sides, 1, options.threads)
    return f"**300,000 x 1024 in a memory map of 1.2 GB, 1 %**, one round\n\n{table(sides, EXTRA)}"


CASES = {"small": small, "large": large, "mapped": mapped}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anomalib-python", type=os.path.abspath, required=True, help="interpreter that has anomalib")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--long-peer", action="store_true", help="run anomalib to the end on the large case")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = "\n\n".join(CASES[name](options, Path(folder)) for name in options.cases)
    print(text)
    if options.cases == list(CASES):
        write_section("coreset", text)


if __name__ == "__main__":
    main()
