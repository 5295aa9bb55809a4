"""Ablations A9 and A10 of PatchCore-noising: weight of the student, and strength of its training noise.

    python benchmarks/student_table.py --data.name mvtec --data.root MVTec --cls_names bottle --output students
    python benchmarks/student_table.py --table --output students

Trains once per strength of the noise (tau) and evaluates the result with each weight of the student's anomaly map
(beta), which needs no training: 0 is the bank only, 1 the student only. Writes one JSON file per category, backbone,
seed and tau; existing files are kept, and an interrupted training is resumed. `--table` prints the means and standard
deviations over seeds as Markdown. Cost: three times that of the config, per seed. Expected: docs/patchcore_noising.md.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path
from typing import Any

from _over_seeds import gain, mean

import anoframe
from anoframe.config import ConfigDict, load_config
from anoframe.data.cached_reader import Reader
from anoframe.data.dataset import choose_categories, open_dataset
from anoframe.distributed.devices import choose_device
from anoframe.evaluation.predictions import collect
from anoframe.evaluation.results import category_metrics
from anoframe.features.extraction import FeatureLoader
from anoframe.metrics.catalogue import SUMMARY
from anoframe.models.base import Detector
from anoframe.models.patchcore_noising.model import PatchCoreNoising
from anoframe.tracking.tracker import Trackers
from anoframe.training.checkpoint import find_checkpoint, load_checkpoint
from anoframe.utils.files import write_json

CONFIG = "patchcore_noising/patchcore_noising_lite0_256_student.py"
TAUS = (0.0, 0.5, 1.0)
BETAS = (0.0, 0.5, 1.0)
COMPARED = ("image_auroc", "aupro")  # metrics with a column of differences to the bank

Results = dict[str, dict[str, float | None]]  # beta -> metric -> value


def experiment(cfg: ConfigDict, category: str, output: Path) -> Results:
    """Train one detector, or resume its training, and evaluate it with each weight of the student."""
    run = anoframe.train(cfg, [category], output, start="resume")
    fitted = load_checkpoint(find_checkpoint(run.folder, category), choose_device(cfg.device))
    samples = [
        sample for sample in open_dataset(cfg.data.name, cfg.data.root).samples(category) if sample.split == "test"
    ]
    reader = Reader(fitted.preprocessing)
    encoded = FeatureLoader(fitted.detector, samples, reader, cfg.data.batch_size, cfg.data.workers, Trackers())
    batches = list(encoded)
    size = fitted.preprocessing.crop
    return {
        str(beta): category_metrics(collect(set_beta(fitted.detector, beta), batches, len(samples), size), (), ())
        for beta in BETAS
    }


def set_beta(detector: Detector, beta: float) -> Detector:
    assert isinstance(detector, PatchCoreNoising)
    assert detector.student is not None
    detector.student.beta = beta
    return detector


# ------------------------------------------------------------------------------------------------ table


def table(folder: Path) -> str:
    """Format means and deviations over seeds, and per-seed gains over the bank only, in percent."""
    blocks: dict[tuple[str, str], dict[tuple[float, float], list[Results]]] = {}
    for path in sorted(folder.glob("*.json")):
        run = json.loads(path.read_text())
        rows = blocks.setdefault((run["category"], run["backbone"]), {})
        for beta in BETAS:
            rows.setdefault((run["tau"], beta), []).append(run["results"])
    return "\n\n".join(_block(*key, rows) for key, rows in blocks.items())


def _block(category: str, backbone: str, rows: dict[tuple[float, float], list[Results]]) -> str:
    seeds = max(len(runs) for runs in rows.values())
    lines = [f"**{category}, {backbone}, seeds: {seeds}**", ""]
    lines += [
        "| tau | beta | image AUROC | pixel AUROC | AUPRO | image AUROC - bank | AUPRO - bank |",
        "|---" * 7 + "|",
    ]
    for (tau, beta), runs in sorted(rows.items()):
        cells = [mean([_percent(run, beta, name) for run in runs]) for name in SUMMARY]
        cells += [gain([_percent(run, beta, name) - _percent(run, 0.0, name) for run in runs]) for name in COMPARED]
        lines.append(f"| {tau:g} | {beta:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _percent(run: Results, beta: float, metric: str) -> float:
    value = run[str(beta)][metric]
    return float("nan") if value is None else 100 * value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data.name", dest="name", default="mvtec")
    add("--data.root", dest="root")
    add("--cls_names", nargs="+", default=["all"])
    add("--backbones", nargs="+", default=["tf_efficientnet_lite0"])
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--epochs", type=int, help="instead of the value in the config")
    add("--device", default="auto")
    add("--output", type=Path, default=Path("students"))
    add("--table", action="store_true", help="only print the table of the results in --output")
    options = parser.parse_args()
    if not options.table:
        options.root = options.root or f"data/{options.name}"
        categories = choose_categories(open_dataset(options.name, options.root), options.cls_names)
        for variant in product(categories, options.backbones, options.seeds, TAUS):
            _run_one(options, *variant)
    print(table(options.output))


def _run_one(options: argparse.Namespace, category: str, backbone: str, seed: int, tau: float) -> None:
    path = options.output / f"{category}_{backbone}_{tau:g}_{seed}.json"
    if path.exists():
        return
    overrides: dict[str, Any] = {"data.name": options.name, "data.root": options.root, "device": options.device}
    overrides |= {"seed": seed, "data.keep_aspect": False, "model.backbone.name": backbone, "model.student.tau": tau}
    if options.epochs:
        overrides["trainer.epochs"] = options.epochs
    results = experiment(load_config(CONFIG, overrides), category, options.output / "runs" / f"{backbone}_{tau:g}")
    write_json(path, {"category": category, "backbone": backbone, "seed": seed, "tau": tau, "results": results})


if __name__ == "__main__":
    main()
