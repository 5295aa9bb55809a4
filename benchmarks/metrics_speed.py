"""Cost of exact pixel metrics compared with peers on the same maps: seconds, memory, and the error of AUPRO.

    python benchmarks/metrics_speed.py --anomalib-python PY --adeval-python PY
    python benchmarks/metrics_speed.py --only ours --images 2000 --rounds 1     # memory of our side only

The input is 1,000 synthetic maps of 256 x 256 with scores in [0, 1], half of them with one to three defects. Each side
loads them, runs a small case as a warm-up (imports, one-time initialisation), and is then timed. Extra memory is the
peak of the process minus its memory just before. The reference is the definition in float64 over all pixels; it shares
no code with the package. Linux only. Five rounds take half an hour, the reference 3 GB.

Expected: ours is exact and the fastest; anomalib takes more than 10 times as long and several GB; adeval, which counts
scores in bins of equal width, has an error of about 1e-5. adeval spends most of its time in NumPy's sort: use the same
NumPy version as for our side.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from metrics_against_peers import PIXEL, Case, anomalib_batches, anomalib_metric, make_case
from scipy import ndimage

LIMIT = 0.3
Values = dict[str, float]
Work = Callable[[], Values]


def ours_aupro(masks: np.ndarray, maps: np.ndarray) -> Work:
    from anoframe.metrics import aupro

    return lambda: {"aupro": aupro(masks, maps)}


def ours_all(masks: np.ndarray, maps: np.ndarray) -> Work:
    from anoframe.metrics import pixel_metrics

    return lambda: pixel_metrics(masks, maps)


def adeval(masks: np.ndarray, maps: np.ndarray) -> Work:
    if not hasattr(np, "trapz"):  # removed in NumPy 2.4, used by adeval 1.1.0
        np.trapz = np.trapezoid  # noqa: NPY201
    from adeval import auroc_aupr_aupro

    def work() -> Values:
        values = auroc_aupr_aupro(scores, targets, nstrips=1000)
        return dict(zip(("pixel_auroc", "pixel_aupr", "aupro"), map(float, values), strict=True))

    scores, targets = list(maps), list(masks.astype(np.uint8))
    return work


def anomalib(masks: np.ndarray, maps: np.ndarray) -> Work:
    from anomalib.metrics import AUPRO

    batches = anomalib_batches(Case(masks, maps, maps), maps)
    return lambda: {"aupro": anomalib_metric(AUPRO(fields=PIXEL), batches)}


def scikit_learn(masks: np.ndarray, maps: np.ndarray) -> Work:
    from sklearn.metrics import roc_auc_score

    return lambda: {"pixel_auroc": float(roc_auc_score(masks.ravel(), maps.ravel()))}


def torchmetrics(masks: np.ndarray, maps: np.ndarray) -> Work:
    import torch
    from torchmetrics.functional.classification import binary_auroc

    scores, targets = torch.from_numpy(maps).flatten(), torch.from_numpy(masks).flatten().int()
    return lambda: {"pixel_auroc": binary_auroc(scores, targets, thresholds=None).item()}


SIDES: dict[
    str, tuple[Callable[[np.ndarray, np.ndarray], Work], list[str]]
] = {  # name -> side, packages whose versions are shown
    "ours, AUPRO": (ours_aupro, ["numpy", "scipy"]),
    "ours, all five": (ours_all, []),
    "adeval, AUPRO, AUROC, AP, 1000 bins": (adeval, ["adeval", "numpy"]),
    "anomalib, AUPRO": (anomalib, ["anomalib", "torch"]),
    "torchmetrics, AUROC, exact": (torchmetrics, ["torchmetrics"]),
    "scikit-learn, AUROC": (scikit_learn, ["scikit-learn"]),
}


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Run one side in this process: values, wall and CPU seconds, and additional peak memory in MiB."""
    side, packages = SIDES[name]
    small = make_case(images=8, size=64, seed=0)
    side(small.masks, small.maps)()
    work = side(np.load(folder / "masks.npy"), np.load(folder / "maps.npy"))
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak, which loading has raised
    before, cpu, start = peak_mib(), time.process_time(), time.perf_counter()
    values = work()
    return {
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "extra": peak_mib() - before,
        "values": values,
        "versions": {package: version(package) for package in packages},
    }


def peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def reference_aupro(masks: np.ndarray, maps: np.ndarray) -> float:
    """AUPRO by its definition in float64: every distinct pixel score is a threshold."""
    shares, regions = np.zeros(masks.shape), 0
    for share, mask in zip(shares, masks, strict=True):
        region, count = ndimage.label(mask, structure=np.ones((3, 3)))
        share[mask] = (1 / np.bincount(region.ravel()))[region[mask]]
        regions += count
    order = np.argsort(maps, axis=None)[::-1]
    last = np.flatnonzero(
        np.append(np.diff(maps.ravel()[order]) != 0, True)
    )  # last position of each group of equal scores
    overlap = np.append(0, np.cumsum(shares.ravel()[order])[last] / regions)
    fpr = np.append(0, np.cumsum(~masks.ravel()[order])[last] / np.count_nonzero(~masks))
    x, y = np.append(fpr[fpr <= LIMIT], LIMIT), np.append(overlap[fpr <= LIMIT], np.interp(LIMIT, fpr, overlap))
    return float((np.diff(x) * (y[1:] + y[:-1])).sum() / 2 / LIMIT)


def compare(options: argparse.Namespace) -> None:
    from _rounds import Side, run_alternately, table, write_section  # not needed in the environments of the sides

    pythons = {"anomalib": options.anomalib_python, "torchmetrics": options.anomalib_python}
    pythons["adeval"] = options.adeval_python
    case = make_case(options.images, options.size, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "masks.npy", case.masks)
        np.save(Path(folder) / "maps.npy", case.maps)
        sides = []
        for name in SIDES:
            python = pythons.get(name.split(",")[0], sys.executable)
            if name.startswith(options.only):
                sides.append(Side(name, [python, __file__, "--side", name, "--folder", folder]))
        run_alternately(sides, options.rounds)
    exact = None if options.only else reference_aupro(case.masks, case.maps)
    for side in sides:
        summarise(side.results, exact)
    columns = {"CPU s of the metrics": "cpu", "extra memory, MiB": "extra", "error of AUPRO": "error"}
    text = f"{options.images:,} maps of {options.size} x {options.size}, {case.masks.mean():.2%} anomalous pixels"
    text += f"; AUPRO by its definition in float64: {exact:.10f}" if exact is not None else ""
    text += f".\n\n{table(sides, columns)}"
    print(text)
    if not options.only:
        write_section("metrics", text)


def summarise(results: list[dict[str, Any]], exact: float | None) -> None:
    """Add the values over all rounds to the last round, which the table shows."""
    value = results[-1]["values"].get("aupro")
    results[-1] |= {
        "cpu": f"{statistics.median(result['cpu'] for result in results):.3g}",
        "extra": f"{max(result['extra'] for result in results):.0f}",
        "error": "" if value is None or exact is None else f"{value - exact:+.0e}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anomalib-python", help="python of an environment with anomalib")
    parser.add_argument("--adeval-python", help="python of an environment with adeval, scipy and OpenCV")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--only", default="", help="run only sides whose name starts with this, and do not write the README"
    )
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)  # run one side here, print JSON
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options.side, options.folder)))
        return
    if not options.only and not (options.anomalib_python and options.adeval_python):
        parser.error("the peers need --anomalib-python and --adeval-python; without them, use --only ours")
    compare(options)


if __name__ == "__main__":
    main()
