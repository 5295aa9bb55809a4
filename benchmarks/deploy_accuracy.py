"""Compare exported models with torch on all test images: scores, maps, decisions and metrics.

    python benchmarks/deploy_accuracy.py RUN [RUN ...] --models exported_models --data_root <MVTec AD>

RUN is a run folder; all its categories are exported to each format and precision below `--models`. A model that is
there already is not exported again, so an interrupted call continues. One line per model:

- score: largest relative difference of an image score to torch's;
- map: largest difference of a pixel, as a share of the largest pixel of torch's maps of the category;
- decisions: images with another decision, of those with a threshold;
- metrics in percent, with the difference to torch.

Needs the extras `onnx` and `openvino`. A few minutes per run on two cores. Expected: docs/deploy.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

import anoframe
from anoframe import deploy
from anoframe.config import load_config
from anoframe.config.discovery import find_run_config
from anoframe.data.cached_reader import Reader
from anoframe.evaluation.decision import is_defect
from anoframe.exporting.api import FORMATS
from anoframe.metrics.aupro import aupro
from anoframe.metrics.auroc import auroc
from anoframe.runs.protocols import open_run_dataset
from anoframe.training.checkpoint import find_checkpoint, list_checkpoints, load_checkpoint, trained_categories
from anoframe.utils.progress import progress

VARIANTS = [(name, precision) for name in ("onnx", "openvino") for precision in FORMATS[name]]


class TestSet:
    """Test images of a category with the predictions of torch."""

    def __init__(self, run: Path, category: str, data_root: str | None):
        cfg = load_config(find_run_config(run), {"data.root": data_root} if data_root else {})
        trained = load_checkpoint(find_checkpoint(run, category), torch.device("cpu"))
        reader = Reader(trained.preprocessing)
        samples = [s for s in open_run_dataset(cfg).samples(category) if s.split == "test"]
        images = [reader.image(sample.image) for sample in samples]
        self.labels = [sample.is_defect for sample in samples]
        self.masks = np.stack([reader.mask(s, i.size)[0].numpy() for s, i in zip(samples, images, strict=True)])
        self.pixels = torch.stack([image.pixels for image in images])
        self.threshold = trained.thresholds.get(category)
        predictions = [trained.detector.predict(part) for part in progress(self.pixels.split(8), "torch")]
        self.scores = torch.cat([p.score for p in predictions]).numpy()
        self.maps = torch.cat([p.anomaly_map for p in predictions]).numpy()

    def metrics(self, scores: np.ndarray, maps: np.ndarray) -> dict[str, float]:
        values = auroc(self.labels, scores), auroc(self.masks.ravel(), maps.ravel()), aupro(self.masks, maps)
        return dict(zip(("image_auroc", "pixel_auroc", "aupro"), (100 * value for value in values), strict=True))

    def compare(self, model: deploy.Model) -> dict[str, Any]:
        images = self.pixels.permute(0, 2, 3, 1).contiguous().numpy()
        results = [model.predict_pixels(image[None])[0] for image in progress(list(images), "model")]
        scores, maps = np.array([r.score for r in results]), np.stack([r.anomaly_map for r in results])
        limit = self.threshold and self.threshold.image
        return {
            "score": float((np.abs(scores - self.scores) / np.abs(self.scores)).max()),
            "map": float(np.abs(maps - self.maps).max() / self.maps.max()),
            "decisions": None
            if limit is None
            else int((is_defect(self.scores, limit) != [r.is_defect for r in results]).sum()),
            "metrics": self.metrics(scores, maps),
        }


def export(run: Path, category: str, kind: str, precision: str, folder: Path, data_root: str | None) -> deploy.Model:
    """Export a model, unless the folder has one of the same detector."""
    learned = json.loads((find_checkpoint(run, category) / "detector.json").read_text())["learned_sha256"]
    file = folder / "model.json"
    if not (file.is_file() and json.loads(file.read_text())["learned_sha256"] == learned):
        anoframe.export(run, kind, precision, folder, category, data_root, overwrite=True)
    return deploy.load(folder)


def row(name: str, category: str, variant: str, result: dict[str, Any], base: dict[str, float], size: int) -> str:
    metrics = [f"{value:.2f} ({value - base[key]:+.2f})" for key, value in result["metrics"].items()]
    decisions = "no threshold" if result["decisions"] is None else result["decisions"]
    differences = [f"{result['score']:.1e}", f"{result['map']:.1e}", str(decisions)]
    return " | ".join([f"| {name}", category, variant, f"{size / 1e6:.1f}", *differences, *metrics]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--models", type=Path, required=True, help="folder of the exported models")
    parser.add_argument("--data_root", help="folder of the dataset, if it is not where the runs had it")
    options = parser.parse_args()
    print("| method | category | model | MB | score | map | decisions | image AUROC | pixel AUROC | AUPRO |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for run in options.runs:
        categories = [name for folder in list_checkpoints(run).values() for name in trained_categories(folder)]
        for category in categories:
            method = str(load_config(find_run_config(run)).model.name)
            images = TestSet(run, category, options.data_root)
            base = images.metrics(images.scores, images.maps)
            for kind, precision in VARIANTS:
                folder = options.models / method / category / f"{kind}_{precision}"
                model = export(run, category, kind, precision, folder, options.data_root)
                size = sum(file.stat().st_size for file in folder.iterdir())
                result = images.compare(model)
                print(row(method, category, f"{kind} {precision}", result, base, size), flush=True)


if __name__ == "__main__":
    main()
