"""Compare PaDiM with anomalib's on the same features and the same channels: maps, metrics, seconds to fit.

    python benchmarks/padim_against_anomalib.py --anomalib-python PY --root MVTEC_AD --category bottle

EfficientNet-Lite0, levels of strides 4, 8 and 16, images of 256 pixels cropped to 224. Features are computed once
and given to both sides. The time of a fit begins with the features of all training images in memory and ends with
the Gaussians. Two differences of definition:

- anomalib adds 0.01 and then 0.00001 to the diagonal of a covariance; here, `model.regularization` is set to 0.01001;
- anomalib's Gaussian blur mirrors a map without its edge pixel (`reflect` of torch), ours with it (`reflect` of
  scipy, as in the code that the paper's results are usually repeated with). So smoothed maps can only be equal
  `4 sigma = 16` pixels away from the border. The metrics of the table include the border, on both sides.

Distances of the first three test images are also compared with brute force in float64. Cost: 10 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _rounds import Side, run_alternately, table, write_section

CONFIG, REGULARIZATION, BORDER, CHECKED, BATCH = "padim/padim_lite0_224.py", 0.01001, 16, 3, 32


def write_features(folder: Path, root: Path, category: str) -> None:
    """Encode training and test images; write their features, the chosen channels, masks and labels."""
    import torch
    from safetensors.torch import save_file

    from anoframe.config import load_config, to_plain
    from anoframe.data.cached_reader import Reader
    from anoframe.data.dataset import open_dataset
    from anoframe.data.preprocessing import Preprocessing
    from anoframe.features.extraction import FeatureLoader
    from anoframe.models.factory import build_detector
    from anoframe.tracking.tracker import Trackers

    detector = build_detector(to_plain(load_config(CONFIG).model), seed=0)
    samples = open_dataset("mvtec", root).samples(category)
    tensors = {"channels": detector.channels}
    for split in ("train", "test"):
        chosen = [sample for sample in samples if sample.split == split]
        reader = Reader(Preprocessing(256, 224))
        batches = list(FeatureLoader(detector, chosen, reader, BATCH, 0, Trackers()))
        for level in range(len(batches[0].features)):
            tensors[f"{split}.{level}"] = torch.cat([batch.features[level] for batch in batches])
        tensors[f"{split}.masks"] = torch.cat([batch.masks for batch in batches])[:, 0]
        tensors[f"{split}.labels"] = torch.tensor([sample.is_defect for sample in chosen])
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "features.safetensors")


def load_features(folder: Path) -> tuple[dict[str, Any], list[Any], list[Any]]:
    """All tensors, and the levels of the training and of the test images."""
    from safetensors.torch import load_file

    tensors = load_file(folder / "features.safetensors")
    train, test = ([tensors[f"{split}.{level}"] for level in range(3)] for split in ("train", "test"))
    return tensors, train, test


def ours(folder: Path) -> None:
    """Fit, detect, write distances and maps, and print the times as JSON."""
    import torch
    from safetensors.torch import save_file

    from anoframe.config import load_config, to_plain
    from anoframe.evaluation.provenance import versions
    from anoframe.models.factory import build_detector

    tensors, train, test = load_features(folder)
    detector: Any = build_detector(to_plain(load_config(CONFIG, {"model.regularization": REGULARIZATION}).model))
    detector.channels = tensors["channels"]
    count = len(train[0])
    with torch.no_grad():
        started, cpu = time.perf_counter(), time.process_time()
        detector.begin_observation(count)
        for batch in zip(*(level.split(BATCH) for level in train), strict=True):
            detector.observe(list(batch), ())
        detector.finish_observation()
        fitted, cpu = time.perf_counter(), time.process_time() - cpu
        maps = detector.detect(test, (224, 224)).anomaly_map
        detection = (time.perf_counter() - fitted) / len(maps)
        distances = torch.cat([detector.distances([level[i : i + 1] for level in test]) for i in range(len(maps))])
    save_file({"maps": maps, "distances": distances.contiguous()}, folder / "anoframe.safetensors")
    seconds = {"seconds": fitted - started, "cpu": f"{cpu:.1f}", "detection": f"{detection:.3f}"}
    print(json.dumps({**seconds, "versions": {"torch": versions()["torch"]}}))


def brute_force(folder: Path) -> Any:
    """Distances `[CHECKED, h, w]` of the first test images by float64 covariances and solutions of equations."""
    import torch
    from torch.nn import functional as F

    tensors, train, test = load_features(folder)

    def vectors(levels: list[Any]) -> Any:
        grid = levels[0].shape[-2:]
        maps = torch.cat([F.interpolate(level, size=grid, mode="nearest") for level in levels], 1)
        return maps[:, tensors["channels"]].double().flatten(2).permute(2, 0, 1)  # [h * w, B, d]

    normal, tested = vectors(train), vectors([level[:CHECKED] for level in test])
    distances = []
    for x, y in zip(normal, tested, strict=True):
        covariance = torch.cov(x.T) + REGULARIZATION * torch.eye(x.shape[1], dtype=x.dtype)
        delta = y - x.mean(0)
        distances.append((delta * torch.linalg.solve(covariance, delta.T).T).sum(1).sqrt())
    return torch.stack(distances, 1).unflatten(1, train[0].shape[-2:])


def compare(folder: Path) -> str:
    """Format the differences of distances, maps and metrics as Markdown."""
    from safetensors.torch import load_file

    from anoframe.metrics.auroc import auroc

    tensors, *_ = load_features(folder)
    labels, masks = tensors["test.labels"].numpy(), tensors["test.masks"].numpy()
    results = {name: load_file(folder / f"{name}.safetensors") for name in ("anoframe", "anomalib")}
    exact = brute_force(folder)
    lines = ["| side | image AUROC | pixel AUROC | error of distances |", "|---|---|---|---|"]
    for name, result in results.items():
        maps, error = result["maps"], (result["distances"][:CHECKED] - exact).abs() / exact
        image = 100 * (auroc(labels, maps.flatten(1).max(1).values.numpy()) or 0)
        pixel = 100 * (auroc(masks.ravel(), maps.numpy().ravel()) or 0)
        lines.append(f"| {name} | {image:.3f} | {pixel:.4f} | {float(error.max()):.1e} |")
    a, b = results["anoframe"], results["anomalib"]
    inside = (..., slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    pairs = {
        "distances": (a["distances"], b["distances"]),
        f"maps, {BORDER} pixels from the border": (a["maps"][inside], b["maps"][inside]),
        "maps, with the border": (a["maps"], b["maps"]),
    }
    differences = ", ".join(f"{name} {float(((x - y).abs() / y).max()):.1e}" for name, (x, y) in pairs.items())
    return "\n".join([*lines, "", f"Largest relative differences of the two: {differences}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anomalib-python", type=os.path.abspath, help="interpreter that has anomalib")
    parser.add_argument("--root", type=Path, help="root of MVTec AD")
    parser.add_argument("--category", default="bottle")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="keeps the features for another run; default: a temporary folder")
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        ours(options.ours)
        return
    if not options.anomalib_python or not options.root:
        parser.error("--anomalib-python and --root are needed")
    with tempfile.TemporaryDirectory() as temporary:
        text = measure(options, options.folder or Path(temporary))
    print(text)
    write_section("padim", text)


def measure(options: argparse.Namespace, folder: Path) -> str:
    """Run both sides and format the results as Markdown."""
    if not (folder / "features.safetensors").exists():
        write_features(folder, options.root, options.category)
    script = Path(__file__).resolve()
    peer = [options.anomalib_python, str(script.with_name("_padim_peer.py")), str(folder)]
    sides = [Side("anoframe", [sys.executable, str(script), "--ours", str(folder)]), Side("anomalib", peer)]
    run_alternately(sides, options.rounds, options.threads)
    extra = {"CPU s of the fit": "cpu", "detection, seconds per image": "detection"}
    return f"{table(sides, extra)}\n\n{compare(folder)}"


if __name__ == "__main__":
    main()
