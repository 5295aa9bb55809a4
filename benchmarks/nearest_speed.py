"""Speed of the exact nearest-neighbour search for the patches of 100 images in a 10 % bank, compared with faiss.

    python benchmarks/nearest_speed.py --faiss-python PY

100 x 784 queries against 16,385 x 1024 rows in clusters, the size of the bank of bottle (MVTec AD). Building the index
is included in the time. The third row is ours while a second process computes on all threads. `error` is the largest
relative difference to `|a - b|` in float64, over 50 queries. Expected: benchmarks/README.md. Takes some minutes.
Linux and macOS.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from _rounds import Side, run_alternately, table, write_section

IMAGES, PATCHES, BANK, WIDTH = 100, 784, 16_385, 1024


def write(folder: Path, images: int) -> None:
    """Write bank and queries around the same 200 centres."""
    rng = np.random.default_rng(0)
    centres = 2 * rng.standard_normal((200, WIDTH), np.float32)
    for name, count in (("bank", BANK), ("queries", images * PATCHES)):
        np.save(folder / name, centres[rng.integers(200, size=count)] + rng.standard_normal((count, WIDTH), np.float32))


def ours(queries: np.ndarray, bank: np.ndarray, threads: int) -> np.ndarray:
    import torch

    from anoframe.models.components.nearest import Search
    from anoframe.utils.parallel import map_images

    torch.set_num_threads(threads)
    search = Search(torch.from_numpy(bank))
    images = torch.from_numpy(queries).unflatten(0, (-1, PATCHES))
    results = map_images(lambda image: search.nearest(image[0]), images)
    return torch.cat([distances for distances, _ in results])[:, 0].numpy()


def faiss(queries: np.ndarray, bank: np.ndarray, threads: int) -> np.ndarray:
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatL2(bank.shape[1])
    index.add(bank)
    return np.sqrt(index.search(queries, 1)[0][:, 0])


def run_side(name: str, folder: Path, threads: int) -> None:
    queries, bank = np.load(folder / "queries.npy"), np.load(folder / "bank.npy")
    search, package = {"ours": (ours, "torch"), "faiss": (faiss, "faiss-cpu")}[name]
    search(queries[:PATCHES], bank[:100], threads)  # warm-up: imports and one-time initialisation
    started = time.perf_counter()
    distances = search(queries, bank, threads)
    seconds = time.perf_counter() - started
    error = f"{_error(queries, bank, distances):.1e}"
    print(json.dumps({"seconds": seconds, "error": error, "versions": {package: version(package)}}))


def _error(queries: np.ndarray, bank: np.ndarray, distances: np.ndarray) -> float:
    sample = np.linspace(0, len(queries) - 1, 50).astype(int)
    bank = bank.astype(np.float64)
    exact = [np.linalg.norm(bank - queries[i], axis=1).min() for i in sample]
    return float(np.abs(distances[sample] / exact - 1).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faiss-python", type=os.path.abspath, help="interpreter that has faiss-cpu")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        run_side(options.side[0], Path(options.side[1]), options.threads)
        return
    if not options.faiss_python:
        parser.error("--faiss-python is needed: an environment with `pip install faiss-cpu`")
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.images)
        tail = [__file__, "--threads", str(options.threads), "--side"]
        ours_command = [sys.executable, *tail, "ours", folder]
        sides = [
            Side("anoframe", ours_command),
            Side("faiss IndexFlatL2", [options.faiss_python, *tail, "faiss", folder]),
            Side("anoframe, beside a second process", ours_command, busy=True),
        ]
        run_alternately(sides, options.rounds, options.threads)
    text = table(sides, {"error": "error"})
    print(text)
    if options.images == IMAGES:
        write_section("nearest", text)


if __name__ == "__main__":
    main()
