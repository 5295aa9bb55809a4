"""Features and metrics of a frozen encoder in ONNX Runtime and OpenVINO, against torch, on real photographs.

    python benchmarks/engine_accuracy.py --data SHARED --output OUT

PatchCore on EfficientNet-Lite0 (`configs/patchcore/patchcore_lite0_224.py`) on bottle, screw and capsules with three
seeds and each engine of `model.backbone.engine`. Runs that are finished are skipped, so an interrupted call continues.
Prints two tables: the largest difference of a feature to torch's, as a share of the largest value of its level, over
the test images; and image AUROC and AUPRO per seed in percent, with the difference to torch. About ten minutes on two
cores. Expected: docs/runs.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import torch

import anoframe
from anoframe.backbones import build_backbone
from anoframe.backbones.engines import ENGINES
from anoframe.config import load_config
from anoframe.data.cached_reader import Reader
from anoframe.data.dataset import open_dataset
from anoframe.data.preprocessing import Preprocessing
from anoframe.utils.files import read_json
from anoframe.utils.progress import progress

CONFIG = "patchcore/patchcore_lite0_224.py"
COMMON = {"data.keep_aspect": False, "threshold.held_back": 0.0, "report.pictures": 0}  # the shape of all sets: square


class Set(NamedTuple):
    """Where a category lies."""

    name: str  # of the dataset in a config
    root: str  # below --data


SETS = {"bottle": Set("mvtec", "mvtec_ad"), "screw": Set("mvtec", "mvtec_ad"), "capsules": Set("visa", "visa")}
METRICS = ("image_auroc", "aupro")


def run(options: argparse.Namespace, category: str, engine: str, seed: int) -> dict[str, float]:
    """Train and test with one engine and seed unless it is done; return the metrics in percent."""
    output = options.output / engine
    folder = output / Path(CONFIG).stem / "separate" / category / str(seed)
    if not (folder / "metrics.json").exists():
        overrides: dict[str, Any] = {
            "data.name": SETS[category].name,
            "data.root": str(options.data / SETS[category].root),
            "model.backbone.engine": engine,
            "seed": seed,
            **COMMON,
        }
        anoframe.train(load_config(CONFIG, overrides), [category], output, start="resume")
    result = read_json(folder / "results" / f"{category}.json")
    return {name: 100 * result["metrics"][name] for name in METRICS}


def feature_error(options: argparse.Namespace, category: str, engine: str) -> float:
    """Return the largest relative difference between the features of an engine and torch's, over the test images."""
    cfg = load_config(CONFIG, COMMON)
    dataset = open_dataset(SETS[category].name, options.data / SETS[category].root)
    reader = Reader(Preprocessing(cfg.data.resize, cfg.data.crop, keep_aspect=cfg.data.keep_aspect))
    torch_backbone, backbone = (
        build_backbone({**cfg.model.backbone.to_dict(), "engine": name}) for name in ("torch", engine)
    )
    error = 0.0
    for sample in progress([s for s in dataset.samples(category) if s.split == "test"], f"{category}, {engine}"):
        pixels = reader.image(sample.image).pixels[None]
        for ours, expected in zip(backbone(pixels), torch_backbone(pixels), strict=True):
            error = max(error, float((ours - expected).abs().max() / expected.abs().max()))
    return error


def main() -> None:
    """Run what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)  # torch's features are those of a run: each image in one thread
    others = [engine for engine in ENGINES if engine != "torch"]
    lines = ["| category | seed | " + " | ".join(f"{engine}: image AUROC, AUPRO" for engine in ENGINES) + " |"]
    lines.append("|---" * (2 + len(ENGINES)) + "|")
    for category in options.sets:
        for seed in options.seeds:
            base = run(options, category, "torch", seed)
            cells = [", ".join(f"{base[name]:.3f}" for name in METRICS)]
            for engine in others:
                values = run(options, category, engine, seed)
                cells.append(", ".join(f"{values[n]:.3f} ({values[n] - base[n]:+.3f})" for n in METRICS))
            lines.append(f"| {category} | {seed} | {' | '.join(cells)} |")
    print("\n".join(lines), "\n")
    print("| category | " + " | ".join(f"{engine}: feature error" for engine in others) + " |")
    print("|---" * (1 + len(others)) + "|")
    for category in options.sets:
        errors = [f"{feature_error(options, category, engine):.1e}" for engine in others]
        print(f"| {category} | {' | '.join(errors)} |", flush=True)


if __name__ == "__main__":
    main()
