"""What exact pixel metrics cost beside the peers', on the same maps: seconds, memory, and how far each AUPRO is off.

    python benchmarks/metrics_speed.py --anomalib-python PY --adeval-python PY
    python benchmarks/metrics_speed.py --only ours --images 2000 --rounds 1     # memory of our side alone

1,000 synthetic maps of 256 x 256 with scores in [0, 1], half of them with one to three defects, are made once. Every
side loads them, meets a small case (imports, and whatever runs once), and is then timed. Extra memory is the peak of
the process beyond what it held just before that. The reference is the definition written out in float64, over all
pixels, sharing nothing with the package. Linux only. Five rounds take half an hour, the reference 3 GB.

Expected: ours exact and the fastest; anomalib more than 10 times as long, with several GB; adeval, which counts scores
in bins of equal width, about 1e-5 off. adeval's time is mostly NumPy's sort: give it the NumPy that ours has.
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
    if not hasattr(np, "trapz"):  # gone from NumPy 2.4, and adeval 1.1.0 uses it
        np.trapz = np.trapezoid  # noqa: NPY201
    from adeval import auroc_aupr_aupro

    def work() -> Values:
        found = auroc_aupr_aupro(scores, targets, nstrips=1000)
        return dict(zip(("pixel_auroc", "pixel_aupr", "aupro"), map(float, found), strict=True))

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


SIDES: dict[str, tuple[Callable[[np.ndarray, np.ndarray], Work], list[str]]] = {  # name -> side, packages it stands on
    "ours, AUPRO": (ours_aupro, ["numpy", "scipy"]),
    "ours, all five": (ours_all, []),
    "adeval, AUPRO, AUROC, AP, 1000 bins": (adeval, ["adeval", "numpy"]),
    "anomalib, AUPRO": (anomalib, ["anomalib", "torch"]),
    "torchmetrics, AUROC, exact": (torchmetrics, ["torchmetrics"]),
    "scikit-learn, AUROC": (scikit_learn, ["scikit-learn"]),
}


def measure(name: str, folder: Path) -> dict[str, Any]:
    """One side in this process: its values, wall and CPU seconds, and peak memory beyond what was there before."""
    side, packages = SIDES[name]
    small = make_case(images=8, size=64, seed=0)
    side(small.masks, small.maps)()
    work = side(np.load(folder / "masks.npy"), np.load(folder / "maps.npy"))
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of loading
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
    """AUPRO as it is defined, in float64: every distinct score of any pixel is a threshold."""
    shares, regions = np.zeros(masks.shape), 0
    for share, mask in zip(shares, masks, strict=True):
        region, count = ndimage.label(mask, structure=np.ones((3, 3)))
        share[mask] = (1 / np.bincount(region.ravel()))[region[mask]]
        regions += count
    order = np.argsort(maps, axis=None)[::-1]
    last = np.flatnonzero(np.append(np.diff(maps.ravel()[order]) != 0, True))  # of each run of equal scores
    overlap = np.append(0, np.cumsum(shares.ravel()[order])[last] / regions)
    fpr = np.append(0, np.cumsum(~masks.ravel()[order])[last] / np.count_nonzero(~masks))
    x, y = np.append(fpr[fpr <= LIMIT], LIMIT), np.append(overlap[fpr <= LIMIT], np.interp(LIMIT, fpr, overlap))
    return float((np.diff(x) * (y[1:] + y[:-1])).sum() / 2 / LIMIT)


def compare(options: argparse.Namespace) -> None:
    from _rounds import Side, alternate, keep, table  # here, as the sides run in environments that need not have it

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
        alternate(sides, options.rounds)
    exact = None if options.only else reference_aupro(case.masks, case.maps)
    for side in sides:
        summarise(side.said, exact)
    columns = {"CPU s of the metrics": "cpu", "extra memory, MiB": "extra", "AUPRO off by": "off"}
    text = f"{options.images:,} maps of {options.size} x {options.size}, {case.masks.mean():.2%} anomalous pixels"
    text += f"; AUPRO by its definition in float64: {exact:.10f}" if exact is not None else ""
    text += f".\n\n{table(sides, columns)}"
    print(text)
    if not options.only:
        keep("metrics", text)


def summarise(said: list[dict[str, Any]], exact: float | None) -> None:
    """Put what the table shows of all rounds into the last one, where the table looks."""
    value = said[-1]["values"].get("aupro")
    said[-1] |= {
        "cpu": f"{statistics.median(one['cpu'] for one in said):.3g}",
        "extra": f"{max(one['extra'] for one in said):.0f}",
        "off": "" if value is None or exact is None else f"{value - exact:+.0e}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anomalib-python", help="python of an environment with anomalib")
    parser.add_argument("--adeval-python", help="python of an environment with adeval, scipy and OpenCV")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="run the sides whose name begins so, and keep nothing")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)  # run one side here, print JSON
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options.side, options.folder)))
        return
    if not options.only and not (options.anomalib_python and options.adeval_python):
        parser.error("the peers want --anomalib-python and --adeval-python; without them, --only ours")
    compare(options)


if __name__ == "__main__":
    main()
