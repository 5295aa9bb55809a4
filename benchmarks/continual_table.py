"""Continual learning on a stream of photographs: accuracy, forgetting, and cost of several methods.

    python benchmarks/continual_table.py --mvtec MVTec bottle screw --visa VisA capsules \\
        --folder OTHER magnetic_tile kolektorsdd toothbrush --demo brick grass --output continual

Each category is a task, unless `--protocol.tasks` says otherwise; any other config key can be given too. Each category
is reduced to `--train` and `--test` images. Then a small UniAD (see `SMALL`) is trained under each strategy, SEMA-UniAD
natively, and PatchCore with one bank per task, for each seed and order of the categories, in `--workers` processes with
one thread each. Finished runs are kept, and interrupted ones are resumed. Prints a markdown table of means and standard
deviations over seeds; `--table` only prints it. Expected: docs/continual.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from anoframe.data.dataset import open_dataset
from anoframe.metrics.catalogue import SUMMARY
from anoframe.types import Sample

SIDE = "--data.resize 128 --data.crop 128"
# UniAD at a twelfth of the cost: 8 x 8 tokens of width 128, ten times the learning rate, 45 epochs instead of 300.
SMALL = (
    f"{SIDE} --model.width 128 --model.hidden 512 --model.heads 4 --model.window 3 "
    "--trainer.epochs 45 --trainer.optimizer.lr 0.001"
)
UNIAD = f"--config uniad/uniad_lite0.py {SMALL} --protocol.strategy"
# New slots of a task are trained together: one after another takes eight times as long.
SEMA = (
    f"--config sema_uniad/sema_uniad_lite0.py {SMALL} --model.sema.scan_order joint --trainer.phases.adapter.epochs 45 "
    "--trainer.phases.adapter.least_steps 0 --trainer.phases.adapter.batch_size 8 "
    "--trainer.phases.descriptor.least_steps 200"
)
METHODS = {
    "finetune": f"{UNIAD} finetune",
    "frozen": f"{UNIAD} frozen",
    "ewc": f"{UNIAD} ewc",
    "sema": SEMA,
    "sema_rd": SEMA.replace("lite0.py", "lite0_rd_routing.py"),
    "sema_reconstruction": SEMA.replace("lite0.py", "lite0_reconstruction_routing.py"),
    "joint": f"{UNIAD} joint",
    "patchcore": f"--config patchcore/patchcore_lite0_224.py {SIDE} --protocol.strategy native",
}
ABLATION_NAMES = (
    "threshold2", "threshold4", "always", "no_expansion", "attn", "both", "sequential", "layers_2_5", "joint_loss",
    "router_bias", "memory",
)  # fmt: skip
ABLATIONS = {f"sema_{name}": SEMA.replace("lite0.py", f"lite0_{name}.py") for name in ABLATION_NAMES}
METRICS = SUMMARY


def prepare(options: argparse.Namespace, root: Path) -> list[str]:
    """Write all categories into a folder in the layout of MVTec AD; returns their names in the order of the options."""
    names = []
    for kind in ("mvtec", "visa", "folder", "demo"):
        for source, *categories in getattr(options, kind) or ():
            dataset = open_dataset(kind, source)
            for category in categories:
                names.append(category)
                if not (root / category).exists():
                    _write_reduced(dataset.samples(category), root / category, options.train, options.test)
    return names


def _write_reduced(samples: Sequence[Sample], folder: Path, train: int, test: int) -> None:
    """Write a category with fewer images: `train` good ones for training, and `test` ones, a third of them good."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    groups = ("train", False, train), ("test", False, test // 3), ("test", True, test - test // 3)
    for split, is_defect, count in groups:
        group = [sample for sample in samples if sample.split == split and sample.is_defect == is_defect]
        for number, sample in enumerate(_select_evenly(group, count)):
            images = part / split / sample.defect
            images.mkdir(parents=True, exist_ok=True)
            shutil.copy(sample.image, images / f"{number:03d}{sample.image.suffix.lower()}")
            if sample.mask:
                masks = part / "ground_truth" / sample.defect
                masks.mkdir(parents=True, exist_ok=True)
                shutil.copy(sample.mask, masks / f"{number:03d}_mask{sample.mask.suffix.lower()}")
    part.rename(folder)


def _select_evenly(samples: Sequence[Sample], count: int) -> Iterator[Sample]:
    """Select `count` samples, evenly spaced over the list."""
    return (samples[i * len(samples) // count] for i in range(count)) if len(samples) > count else iter(samples)


def train(arguments: Sequence[str]) -> str:
    """Run the command line in a new process; returns the last line of its output."""
    command = [sys.executable, "-m", "anoframe", *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    return (process.stdout if process.returncode == 0 else process.stderr).strip().splitlines()[-1]


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Means and standard deviations over runs in percent, as a markdown table.

    Args:
        results: name of a method -> the contents of `results/continual.json` of its runs.
    """
    heads = [f"{kind} {name}" for name in METRICS for kind in ("ACC", "FM")]
    heads += [
        "pixel_auroc of later tasks after their training",
        "adapters",
        "million parameters",
        "training minutes",
    ]
    lines = ["| method | runs | " + " | ".join(heads) + " |", "|---" * (len(heads) + 2) + "|"]
    for method, runs in results.items():
        cells = [
            _cell([run["cl_metrics"][-1]["by_metric"][name][kind] for run in runs])
            for name in METRICS
            for kind in ("acc", "fm")
        ]
        cells.append(_cell([_plasticity(run) for run in runs]))
        cells.append("/".join(sorted({str(run["adapter_stats"][-1].get("total_adapters", "")) for run in runs})))
        cells.append(f"{mean(run['params_total'][-1] for run in runs) / 1e6:.2f}")
        cells.append(f"{mean(sum(run['seconds']) for run in runs) / 60:.1f}")
        lines.append(f"| {method} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _plasticity(run: dict[str, Any]) -> float | None:
    """Mean pixel AUROC of the later tasks, each right after its training; None if all tasks are trained at once."""
    matrix = run["R"]["pixel_auroc"]
    values = [matrix[task][task] for task in range(1, len(matrix))]
    return mean(values) if values else None


def _cell(values: Sequence[float | None]) -> str:
    percentages = [round(100 * value, 2) + 0.0 for value in values if value is not None]  # + 0.0 turns -0.0 into 0.0
    if not percentages:
        return "n/a"
    average = f"{mean(percentages):.1f}"
    return f"{average} ± {stdev(percentages):.1f}" if len(percentages) > 1 else average


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind in ("mvtec", "visa", "folder", "demo"):
        parser.add_argument(
            f"--{kind}", nargs="+", action="append", metavar="ROOT CATEGORY", help="dataset root, then its categories"
        )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=[*METHODS, *ABLATIONS])
    parser.add_argument("--seeds", nargs="+", default=["0", "1", "2"])
    parser.add_argument(
        "--orders", nargs="+", default=["none", "1"], help="seeds that shuffle categories; none keeps the given order"
    )
    parser.add_argument("--train", type=int, default=30, help="training images per category")
    parser.add_argument("--test", type=int, default=45, help="test images per category, a third of them good")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="only print the table of the finished runs")
    options, changes = parser.parse_known_args()
    names = prepare(options, options.output / "data")
    common = ["--protocol.tasks", ";".join(names), "--data.name", "folder", "--resume"]
    common += ["--data.root", str(options.output / "data"), "--report.pictures", "3"]
    common += ["--threshold.held_back", "0.0", *changes]
    runs = list(product(options.orders, options.seeds, options.methods))
    commands = [
        [*(METHODS | ABLATIONS)[method].split(), *common, "--seed", seed, "--output", str(options.output / "runs")]
        + ([] if order == "none" else ["--protocol.order_seed", order])
        for order, seed, method in runs
    ]
    if not options.table:
        with ThreadPoolExecutor(options.workers) as pool:
            for run, last_line in zip(runs, pool.map(train, commands), strict=True):
                print(*run, last_line, file=sys.stderr, flush=True)
    print(table(_read_results(options.output / "runs")))


def _read_results(runs: Path) -> dict[str, list[dict[str, Any]]]:
    """Config, strategy and order of runs -> the results of the finished ones."""
    results: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(runs.glob("*/continual-*/*/*/results/continual.json")):
        config, protocol = file.parts[-6:-4]
        if (file.parents[1] / "metrics.json").exists():
            name = " ".join([config, *protocol.split("-")[1:]])
            results.setdefault(name, []).append(json.loads(file.read_text()))
    return results


if __name__ == "__main__":
    main()
