"""Compare the values of our metrics with anomalib, scikit-learn and adeval on the same arrays.

    python benchmarks/metrics_against_peers.py --images 200
    python benchmarks/metrics_against_peers.py --peer-python <python of an environment with anomalib>

Prints a Markdown table of values, with the reason if definitions differ; fails if values of equal definitions differ by
more than 1e-6. metrics_speed.py measures the cost. Each side runs in a separate process, the peers in separate
environments, built with uv under --cache unless a python is given (anomalib with its torch is 6 GB).

Expected: scikit-learn and anomalib agree with ours on scores within [0, 1]; anomalib's AUROC on raw distances is 0.5.
Our results are in docs/metrics.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

Values = dict[str, float]
BATCH = 32


class Row(NamedTuple):
    """One comparison.

    Attributes:
        metric: our name.
        side: key of `SIDES`.
        value: name in the values of that side.
        reason: why the values may differ; empty if the definitions are equal.
    """

    metric: str
    side: str
    value: str
    reason: str = ""


class Case(NamedTuple):
    """Synthetic input.

    Attributes:
        masks: [n, H, W] bool.
        raw: [n, H, W] float32 distances, about 25 to 55.
        maps: [n, H, W] float32, the distances scaled to [0, 1] over all images.
    """

    masks: np.ndarray
    raw: np.ndarray
    maps: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        return np.any(self.masks, axis=(1, 2))

    def image_scores(self, maps: np.ndarray) -> np.ndarray:
        return maps.max(axis=(1, 2))


SIGMOID = "applies a sigmoid to each batch with a score outside [0, 1]; in float32 it is 1.0 for all scores"
TRAPEZOID = "trapezoids under the precision-recall curve; average precision uses steps"
BINS = "scores counted in bins of equal width"
ROWS = [
    Row("pixel_auroc", "scikit-learn", "pixel_auroc"),
    Row("pixel_ap", "scikit-learn", "pixel_ap"),
    Row("image_auroc", "scikit-learn", "image_auroc"),
    Row("image_ap", "scikit-learn", "image_ap"),
    Row("pixel_auroc", "anomalib", "pixel_auroc"),
    Row("pixel_ap", "anomalib", "pixel_aupr"),
    Row("pixel_f1max", "anomalib", "pixel_f1max"),
    Row("aupro", "anomalib", "aupro"),
    Row("image_auroc", "anomalib", "image_auroc"),
    Row("image_f1max", "anomalib", "image_f1max"),
    Row("pixel_auroc", "anomalib, raw scores", "pixel_auroc", SIGMOID),
    Row("image_auroc", "anomalib, raw scores", "image_auroc", SIGMOID),
    Row("pixel_auroc", "adeval, 1000 bins", "pixel_auroc", BINS),
    Row("aupro", "adeval, 1000 bins", "aupro", BINS),
    Row("pixel_ap", "adeval, 1000 bins", "pixel_aupr", f"{BINS}; {TRAPEZOID}"),
    Row("pixel_auroc", "adeval, 50 bins", "pixel_auroc", f"{BINS}; 50 is ADer's setting"),
    Row("aupro", "adeval, 50 bins", "aupro", f"{BINS}; 50 is ADer's setting"),
]


def make_case(images: int, size: int, seed: int) -> Case:
    """Make maps of smooth noise; half of them have one to three elliptic defects, shifted and blurred in the map."""
    rng = np.random.default_rng(seed)
    grid = np.mgrid[:size, :size]
    masks = np.zeros((images, size, size), dtype=bool)
    raw = np.empty(masks.shape, dtype=np.float32)
    for i in range(images):
        for _ in range(rng.integers(1, 4) if i % 2 else 0):
            centre, axes = rng.integers(0, size, (2, 1, 1)), rng.uniform(size / 64, size / 10, (2, 1, 1))
            masks[i] |= (((grid - centre) / axes) ** 2).sum(axis=0) < 1
        noise = ndimage.gaussian_filter(rng.standard_normal((size, size)), size / 64) * size / 16
        response = ndimage.gaussian_filter(np.roll(masks[i], 3, axis=1).astype(float), 4)
        raw[i] = 38 + 2 * noise + rng.uniform(1, 12) * response
    return Case(masks, raw, (raw - raw.min()) / (raw.max() - raw.min()))


def ours(case: Case) -> Values:
    from anoframe.metrics import image_metrics, pixel_metrics

    metrics = {**pixel_metrics(case.masks, case.maps), **image_metrics(case.labels, case.image_scores(case.maps))}
    return {name: value for name, value in metrics.items() if value is not None}


def scikit_learn(case: Case) -> Values:
    from sklearn.metrics import average_precision_score, roc_auc_score

    masks, maps, scores = case.masks.ravel(), case.maps.ravel(), case.image_scores(case.maps)
    return {
        "pixel_auroc": roc_auc_score(masks, maps),
        "pixel_ap": average_precision_score(masks, maps),
        "image_auroc": roc_auc_score(case.labels, scores),
        "image_ap": average_precision_score(case.labels, scores),
    }


PIXEL, IMAGE = ("anomaly_map", "gt_mask"), ("pred_score", "gt_label")  # fields of a batch that anomalib uses


def anomalib(case: Case) -> Values:
    from anomalib.metrics import AUPR, AUPRO, AUROC, F1Max

    batches = anomalib_batches(case, case.maps)
    return {
        "pixel_auroc": anomalib_metric(AUROC(fields=PIXEL), batches),
        "pixel_f1max": anomalib_metric(F1Max(fields=PIXEL), batches),
        "pixel_aupr": anomalib_metric(AUPR(fields=PIXEL), batches),
        "aupro": anomalib_metric(AUPRO(fields=PIXEL), batches),
        "image_auroc": anomalib_metric(AUROC(fields=IMAGE), batches),
        "image_f1max": anomalib_metric(F1Max(fields=IMAGE), batches),
    }


def anomalib_raw(case: Case) -> Values:
    from anomalib.metrics import AUROC

    batches = anomalib_batches(case, case.raw)
    return {
        "pixel_auroc": anomalib_metric(AUROC(fields=PIXEL), batches),
        "image_auroc": anomalib_metric(AUROC(fields=IMAGE), batches),
    }


def anomalib_batches(case: Case, maps: np.ndarray) -> list[SimpleNamespace]:
    import torch

    fields = {
        "anomaly_map": maps,
        "gt_mask": case.masks.astype(np.uint8),
        "pred_score": case.image_scores(maps),
        "gt_label": case.labels.astype(np.uint8),
    }
    return [
        SimpleNamespace(**{name: torch.from_numpy(values[start : start + BATCH]) for name, values in fields.items()})
        for start in range(0, len(maps), BATCH)
    ]


def anomalib_metric(metric: Any, batches: list[SimpleNamespace]) -> float:
    for batch in batches:
        metric.update(batch)
    return metric.compute().item()


def adeval(case: Case, bins: int) -> Values:
    from adeval import auroc_aupr_aupro

    values = auroc_aupr_aupro(list(case.maps), list(case.masks.astype(np.uint8)), nstrips=bins)
    return dict(zip(("pixel_auroc", "pixel_aupr", "aupro"), values, strict=True))


SIDES: dict[str, Callable[[Case], Values]] = {
    "ours": ours,
    "scikit-learn": scikit_learn,
    "anomalib": anomalib,
    "anomalib, raw scores": anomalib_raw,
    "adeval, 1000 bins": partial(adeval, bins=1000),
    "adeval, 50 bins": partial(adeval, bins=50),
}


def measure(side: str, arrays: str) -> Values:
    with np.load(arrays) as stored:
        return SIDES[side](Case(**stored))


def run_side(side: str, python: str, arrays: str) -> Values:
    command = [python, __file__, "--side", side, "--arrays", arrays]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def environment(folder: Path, *packages: str) -> str:
    """Return the python of an environment with these packages; build it if it does not exist."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run(["uv", "venv", "--python", "3.11", str(folder)], check=True)
        subprocess.run(["uv", "pip", "install", "--python", str(python), *packages], check=True)
    return str(python)


def print_values(results: dict[str, Values]) -> None:
    print("\n| metric | ours | peer | its name | its value | difference | reason |\n|---|---|---|---|---|---|---|")
    for row in ROWS:
        mine, theirs = results["ours"][row.metric], results[row.side][row.value]
        delta = difference(row, results)
        cells = [row.metric, f"{mine:.7f}", row.side, row.value, f"{theirs:.7f}", f"{delta:+.1e}", row.reason]
        print("| " + " | ".join(cells) + " |")


def difference(row: Row, results: dict[str, Values]) -> float:
    return results[row.side][row.value] - results["ours"][row.metric]


def compare(options: argparse.Namespace) -> None:
    cache = options.cache.expanduser()
    anomalib_python = options.peer_python or environment(cache / "anomalib", "anomalib[cpu]")
    adeval_python = options.adeval_python or environment(
        cache / "adeval", "adeval", "numpy<2", "opencv-python", "scipy"
    )
    pythons = {side: adeval_python if side.startswith("adeval") else anomalib_python for side in SIDES}
    pythons["ours"] = sys.executable  # scikit-learn is a dependency of anomalib
    case = make_case(options.images, options.size, options.seed)
    print(f"{options.images} maps {options.size} x {options.size}, {case.masks.mean():.2%} anomalous pixels")
    with tempfile.TemporaryDirectory() as folder:
        arrays = str(Path(folder) / "case.npz")
        np.savez(arrays, **case._asdict())
        results = {side: run_side(side, pythons[side], arrays) for side in SIDES}
    print_values(results)
    unequal = [row for row in ROWS if not row.reason and abs(difference(row, results)) > 1e-6]
    if unequal:
        sys.exit(f"equal definitions with values more than 1e-6 apart: {unequal}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peer-python", help="python of an environment with anomalib")
    parser.add_argument("--adeval-python", help="python of an environment with adeval, numpy < 2, scipy and OpenCV")
    parser.add_argument(
        "--cache", type=Path, default=Path("~/.cache/anoframe/peers"), help="folder for environments that are built"
    )
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)  # run one side here, print JSON
    parser.add_argument("--arrays", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options.side, options.arrays)))
    else:
        compare(options)


if __name__ == "__main__":
    main()
