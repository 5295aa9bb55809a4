"""Class-incremental classification: CLAP4CLIP, its ablations and its baselines on one stream of labelled images.

    python benchmarks/class_stream_table.py --data.name npz --data.root cifar10_subset.npz --output class_stream

Every other config key can be given too. Features are computed once and shared by all runs. Runs follow one another in
this process: for each seed and each order all `--methods`. Finished runs are kept, and interrupted ones are resumed.
Prints a markdown table per order with means and standard deviations over seeds; `--table` only prints. `--methods
ablations` are variants of CLAP4CLIP. Expected: docs/clap4clip.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from anoframe.config import ConfigDict, load_config
from anoframe.config.overrides import dotted_options

CLAP, PROBE = "clap4clip_cifar10_5x2.py", "cifar10_5x2_linear_probe.py"
MEMORY, POSTERIOR = "model.classifier.memory", "model.classifier.posterior"
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "clap4clip": (CLAP, {}),
    "zero_shot": ("cifar10_5x2_zero_shot.py", {}),
    "nearest_class_mean": ("cifar10_5x2_nearest_class_mean.py", {}),
    "linear_probe": (PROBE, {}),
    "linear_probe_no_exemplars": (PROBE, {f"{MEMORY}.per_class": 0}),
    "linear_probe_joint": (PROBE, {"protocol.strategy": "joint"}),
    "frozen": (CLAP, {"protocol.strategy": "frozen"}),
    "joint": (CLAP, {"protocol.strategy": "joint"}),
}
ABLATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "no_vga": (CLAP, {"model.classifier.vga.enabled": False}),
    "deterministic": (CLAP, {f"{POSTERIOR}.variational": False}),
    "no_exemplars": (CLAP, {f"{MEMORY}.per_class": 0}),
    "no_balance": (CLAP, {"model.classifier.balance": False}),
    "routing_alloc": (CLAP, {"model.classifier.routing.mode": "alloc"}),
    "routing_prior": (CLAP, {"model.classifier.routing.mode": "prior"}),
    "samples_4": (CLAP, {f"{POSTERIOR}.samples": 4}),
    "prior_np": (CLAP, {f"{POSTERIOR}.prior": "np"}),
    "prior_frozen": (CLAP, {f"{POSTERIOR}.prior": "frozen"}),
    "herding": (CLAP, {f"{MEMORY}.selector": "herding"}),
    "entropy": (CLAP, {f"{MEMORY}.selector": "entropy"}),
    "variance": (CLAP, {f"{MEMORY}.selector": "variance"}),
    "energy": (CLAP, {f"{MEMORY}.selector": "energy"}),
    "distance": (CLAP, {f"{MEMORY}.selector": "distance"}),
    "no_language_loss": (CLAP, {"model.classifier.loss.language": 0.0}),
}
Column = tuple[str, Callable[[Mapping[str, Any]], float | None], int]  # head, value, decimals


def config(method: str, seed: int, order: int | None, overrides: Mapping[str, Any]) -> ConfigDict:
    """Return the config of a run."""
    name, own = {**METHODS, **ABLATIONS}[method]
    values = {**own, "seed": seed, **({} if order is None else {"protocol.order_seed": order}), **overrides}
    cfg = load_config(f"clap4clip/{name}", values)
    cfg.config_name = method  # part of the run folder, which else would be that of another variant
    return cfg


def run(cfg: ConfigDict, output: Path) -> None:
    """Train and evaluate, unless it is done."""
    from anoframe.runs.class_incremental_run import run_class_stream  # imports torch

    if not is_finished(cfg, output):
        run_class_stream(cfg, output, "resume")


def is_finished(cfg: ConfigDict, output: Path) -> bool:
    """Return whether a run has finished."""
    return any(json.loads(path.read_text())["status"] == "finished" for path in find(cfg, output, "run.json"))


def find(cfg: ConfigDict, output: Path, name: str) -> list[Path]:
    """Return the files of this name of a run: one, or none."""
    order = "" if cfg.protocol.order_seed is None else f"-order{cfg.protocol.order_seed}"
    strategy = f"class_incremental-{cfg.protocol.strategy}{order}"
    return sorted((output / cfg.config_name / strategy).glob(f"*/{cfg.seed}/{name}"))


# ------------------------------------------------------------------------------------------------ table


def stream(key: str, metric: str = "accuracy") -> Callable[[Mapping[str, Any]], float | None]:
    """Return a function that reads a stream metric after the last task, in percent."""

    def read(results: Mapping[str, Any]) -> float | None:
        value = results["cl_metrics"][-1]["by_metric"][metric][key]
        return None if value is None else 100 * value

    return read


def novelty(confidence: str, key: str) -> Callable[[Mapping[str, Any]], float | None]:
    """Return a function that reads the mean over the tasks of a novelty metric, in percent."""

    def read(results: Mapping[str, Any]) -> float | None:
        values = [row[confidence][key] for row in results["novelty"] if row and confidence in row]
        return 100 * mean(values) if values else None

    return read


COLUMNS: Sequence[Column] = (
    ("ACC", stream("acc"), 1),
    ("ACC, mixed batches", stream("acc", "accuracy_mixed"), 1),
    ("AIA", stream("aia"), 1),
    ("FM", stream("fm"), 1),
    ("BWT", stream("bwt"), 1),
    ("ACC, task known", stream("acc", "accuracy_task_aware"), 1),
    ("ECE", lambda results: 100 * results["ece"][-1], 1),
    ("novelty AUROC", novelty("energy", "auroc"), 1),
    ("AUPR", novelty("energy", "aupr"), 1),
    ("FPR95", novelty("energy", "fpr95"), 1),
    ("AUROC, max softmax", novelty("max_softmax", "auroc"), 1),
    ("AUROC, variance", novelty("variance", "auroc"), 1),
    ("million values", lambda results: results["params_total"][-1] / 1e6, 3),
    ("exemplar kB", lambda results: results["exemplars"][-1]["bytes"] / 1e3, 0),
    ("seconds per task", lambda results: mean(results["seconds"]), 1),
)


def table(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Format means and standard deviations over runs as a markdown table; `results` is method -> its runs."""
    heads = [head for head, _, _ in COLUMNS]
    lines = ["| method | runs | " + " | ".join(heads) + " |", "|---" * (len(heads) + 2) + "|"]
    for method, runs in results.items():
        cells = [cell([value(each) for each in runs], decimals) for _, value, decimals in COLUMNS]
        lines.append(f"| {method} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(values: Sequence[float | None], decimals: int) -> str:
    """Format mean and standard deviation of the values that are available."""
    available = [value + 0.0 for value in values if value is not None]
    if not available:
        return ""
    average = f"{mean(available):.{decimals}f}"
    return f"{average} ± {stdev(available):.{decimals}f}" if len(available) > 1 else average


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*METHODS, *ABLATIONS, "baselines", "ablations"]
    parser.add_argument("--methods", nargs="+", default=["baselines"], choices=names, metavar="NAME")
    parser.add_argument("--orders", nargs="+", default=["none", "1993"], help="none, or seeds that shuffle the classes")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("class_stream"))
    parser.add_argument("--table", action="store_true", help="only print the table of the runs that have finished")
    options, rest = parser.parse_known_args()
    overrides = dotted_options(rest, parser)
    groups = {"baselines": list(METHODS), "ablations": list(ABLATIONS)}
    methods = [name for given in options.methods for name in groups.get(given, [given])]
    orders = [None if order == "none" else int(order) for order in options.orders]
    if not options.table:
        for seed in options.seeds:
            for order in orders:
                for method in methods:
                    run(config(method, seed, order, overrides), options.output)
                    sys.stdout.flush()
    for order in orders:
        results: dict[str, list[dict[str, Any]]] = {}
        for method in methods:
            for seed in options.seeds:
                cfg = config(method, seed, order, overrides)
                if is_finished(cfg, options.output):
                    (path,) = find(cfg, options.output, "results/continual.json")
                    results.setdefault(method, []).append(json.loads(path.read_text()))
        print(f"\norder {'of the alphabet' if order is None else order}:\n\n{table(results)}")


if __name__ == "__main__":
    main()
