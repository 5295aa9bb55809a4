"""CLAP4CLIP, its ablations and its baselines on a stream of industrial categories, with cached features.

    python benchmarks/class_stream.py --data DATA --output class_stream bottle screw capsules magnetic_tile commutator

DATA has one folder per category in the layout of MVTec AD. Each category is a task, in the given order (order 0) and in
orders that `protocol.order_seed` draws. The class spaces are `state` (P-STATE-SYN: normal and defective classes,
synthetic defects) and `category` (P-CAT). Every image is encoded once; each run then trains and tests on these features
as `tools/main.py --config configs/clap4clip/clap4clip_lite2.py` does, but without pictures, reports and checks of the
data. A finished run is kept in `--output`; `--table` only prints the tables; `--features` only encodes. Times are
processor seconds of one thread. Expected: docs/clap4clip.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor, nn

from anoframe.config import load_config, to_plain
from anoframe.continual.results import stream_results
from anoframe.continual.strategies import build_strategy
from anoframe.evaluation.class_measures import ClassOutputs, measure_classes
from anoframe.features.extraction import FeatureBatch
from anoframe.metrics.auroc import auroc
from anoframe.models.base import TaskData
from anoframe.models.class_incremental.model import ClassIncremental
from anoframe.models.class_incremental.scores import StateTable, energy, least_confidence, sample_variance
from anoframe.runs.exemplar_files import count_bytes
from anoframe.runs.plan import Plan
from anoframe.runs.protocols import config_for_run, plan_tasks
from anoframe.runs.samples import RunSamples
from anoframe.runs.stream_run import count_trained, plan_task_fits, task_seed
from anoframe.tracking.timing import StageTimer
from anoframe.tracking.tracker import Trackers
from anoframe.training.context import FitContext
from anoframe.training.seeding import seed_everything
from anoframe.training.stages import fit_learner
from anoframe.types import Sample

CONFIG = "clap4clip/clap4clip_lite2.py"
SPACES = ("state", "category")
CLAP = "CLAP4CLIP"
NONE: Mapping[str, Any] = {}
NO_NOISE = "no noise at a test"  # no key of a config: the samples of the posterior are replaced by its mean
# name -> strategy, changes of the section model.classifier
METHODS: dict[str, tuple[str, Mapping[str, Any]]] = {
    CLAP: ("native", NONE),
    "zero-shot": ("native", {"name": "zero_shot"}),
    "nearest class mean": ("native", {"name": "nearest_class_mean"}),
    "linear probe, replay": ("native", {"name": "linear_probe"}),
    "joint": ("joint", NONE),
    "frozen": ("frozen", NONE),
}
ABLATIONS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "without VGA": ("native", {"vga": {"enabled": False}}),
    "deterministic": ("native", {"posterior": {"variational": False}}),
    "posterior mean at a test": ("native", {NO_NOISE: True}),
    "without exemplars": ("native", {"memory": {"per_class": 0}}),
    "energy selector": ("native", {"memory": {"selector": "energy"}}),
    "routing alloc": ("native", {"routing": {"mode": "alloc"}}),
    "routing prior": ("native", {"routing": {"mode": "prior"}}),
    "without VGA, deterministic": ("native", {"vga": {"enabled": False}, "posterior": {"variational": False}}),
    "linear probe, no replay": ("native", {"name": "linear_probe", "memory": {"per_class": 0}}),
}
METHODS_AND_ABLATIONS = {**METHODS, **ABLATIONS}
KEPT = {"linear_probe": ("name", "memory"), "zero_shot": ("name", "scale"), "nearest_class_mean": ("name", "scale")}
Vectors = dict[Sample, Tensor]


@dataclass(frozen=True)
class Stream:
    """Data of a class space, encoded: samples of each category and the feature vector of each sample."""

    plan: Plan
    samples: RunSamples
    backbone: nn.Module
    vectors: Vectors

    def batches(self, samples: Sequence[Sample]) -> list[FeatureBatch]:
        """Return samples as batches of features, without masks."""
        chunks = [samples[i : i + 64] for i in range(0, len(samples), 64)]
        return [
            FeatureBatch(self.stack(chunk), torch.zeros(len(chunk), 1, 1, 1, dtype=torch.bool), tuple(chunk))
            for chunk in chunks
        ]

    def stack(self, samples: Sequence[Sample]) -> Tensor:
        """Return the features of samples, `[N, D]`."""
        return torch.stack([self.vectors[sample] for sample in samples])


def encode(data: Path, categories: Sequence[str], space: str) -> Stream:
    """Encode every image of a class space, from the cache where it has them."""
    changes = {"data.name": "folder", "data.root": str(data), "device": "cpu", "model.classes": space}
    plan = Plan(config_for_run(load_config(CONFIG, {**changes, "protocol.tasks": ";".join(categories)}), None))
    samples, detector = RunSamples(plan, Trackers()), plan.new_detector()
    vectors: Vectors = {}
    for category in categories:
        wanted = [*samples.train([category])[category], *samples.test(category)]
        started = time.perf_counter()
        for batch in samples.encode(detector, wanted):
            vectors |= dict(zip(batch.samples, batch.features, strict=True))
        print(f"{space}: {category}: {len(wanted)} images in {time.perf_counter() - started:.0f} s", flush=True)
    return Stream(plan, samples, detector.backbone, vectors)


# ------------------------------------------------------------------------------------------------ one run


def run(stream: Stream, method: tuple[str, Mapping[str, Any]], order: int, seed: int) -> dict[str, Any]:
    """Train and test one method on the stream; returns the content of `results/continual.json`, and times."""
    strategy_name, changes = method
    cfg = stream.plan.cfg.copy_and_resolve_references()
    with cfg.unlocked():
        cfg.seed, cfg.protocol.order_seed = seed, order or None
        cfg.protocol.strategy = strategy_name
    tasks = plan_tasks(cfg)
    detector = ClassIncremental(
        stream.backbone,
        _classifier(to_plain(cfg.model.classifier), changes),
        to_plain(cfg.model.text),
        cfg.model.classes,
        cfg.model.defects,
        seed,
    ).eval()
    if changes.get(NO_NOISE):
        detector.learner._noise = _no_noise  # type: ignore[assignment]
    strategy = build_strategy(strategy_name, detector, cfg.protocol.ewc_weight)
    memory: list[Sample] = []
    rows, about = [], []
    for task, fit in enumerate(plan_task_fits(tasks, strategy_name)):
        started = time.process_time()
        new = [s for each in stream.samples.train(fit.training_categories).values() for s in each]
        data = TaskData((*new, *memory), len(new))
        train_seed = task_seed(seed, task)
        seed_everything(train_seed)
        strategy.prepare(task, data)
        strategy.start(task, data.num_new)
        if strategy.training_stages():
            context = FitContext(fit.name, train_seed, to_plain(cfg.trainer), Trackers())
            batches, count = stream.batches(data.samples), len(data.samples)
            fit_learner(detector, batches, count, StageTimer(Trackers()), context, strategy.training_stages)
        strategy.finish()
        memory = [data.samples[row] for row in strategy.exemplar_rows()] if strategy.has_memory else []
        trained = count_trained(strategy.training_stages())
        seconds = time.process_time() - started
        started = time.process_time()
        if task == 0 or strategy_name != "frozen":  # a frozen detector is tested once
            logits = test(stream, detector)
        row, classes = evaluate(stream, detector, logits, fit.categories)
        rows.append(row)
        about.append(
            {
                "seconds": seconds,
                "params_total": detector.num_learned_values(),
                "params_trainable": trained,
                "classes": classes,
                "exemplars": {"images": len(memory), "bytes": count_bytes(memory)},
                "test_seconds": time.process_time() - started,
            }
        )
    head = {
        "seed": seed,
        "git": None,
        "strategy": strategy_name,
        "class_order": [c for t in tasks for c in t],
        "key_metric": "image_auroc",
    }
    results = stream_results(tasks, rows, about, head)
    return {**results, "test_seconds": [entry["test_seconds"] for entry in about]}


def _classifier(section: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section of a classifier with some keys changed; a baseline keeps only the keys that it has."""
    kept = KEPT.get(changes.get("name", ""), tuple(section))
    own = {key: value for key, value in section.items() if key in kept}
    for key, value in ((key, value) for key, value in changes.items() if key != NO_NOISE):
        own[key] = {**own[key], **value} if isinstance(value, Mapping) else value
    return own


def _no_noise(name: str, classes: range, shape: Sequence[int], device: torch.device) -> Tensor:
    """Return zeros in place of the noise of a test."""
    return torch.zeros(*shape[:-1], len(classes), shape[-1], device=device)


def test(stream: Stream, detector: ClassIncremental) -> dict[str, Tensor]:
    """Return category -> logits `[S, n, C]` of its test images, each image by itself."""
    return {
        category: detector.sample_logits(stream.stack(stream.samples.test(category)))
        for category in stream.plan.categories
    }


def evaluate(
    stream: Stream, detector: ClassIncremental, logits: Mapping[str, Tensor], seen: Sequence[str]
) -> tuple[dict[str, dict[str, float | None]], dict[str, Any]]:
    """Measure every category of the stream: image AUROC of each score, and the measures of classes."""
    row, outputs = {}, {}
    for category, values in logits.items():
        labels = [sample.is_defect for sample in stream.samples.test(category)]
        scores = image_scores(detector, values, category)
        row[category] = {f"image_auroc{name}": auroc(labels, value.numpy()) for name, value in scores.items()}
        outputs[category] = ClassOutputs(values.double().mean(0).numpy(), sample_variance(values.double()).numpy())
    for category, value in mixed_batches(stream, detector, seen).items():
        row[category]["image_auroc_mixed"] = value
    return row, measure_classes(detector.class_names, outputs, seen)


def image_scores(detector: ClassIncremental, logits: Tensor, category: str) -> dict[str, Tensor]:
    """Return the scores of `ClassIncremental.compute_prediction` from logits `[S, n, C]` of images of a category."""
    mean = logits.mean(0)
    scores = {"_s_energy": energy(mean), "_s_unc": sample_variance(logits), "_max_softmax": least_confidence(mean)}
    if not detector.has_states:
        return {"": scores["_s_energy"], **scores}
    table = StateTable(detector.class_names)
    place = table.categories.index(category) if category in table.categories else -1
    given = table.conditional(mean, torch.full((len(mean),), place))
    return {"": table.agnostic(mean), "_s_cond": given, **scores}


def mixed_batches(stream: Stream, detector: ClassIncremental, seen: Sequence[str]) -> dict[str, float | None]:
    """Image AUROC of each seen category if shuffled batches of 32 images of all of them are computed together."""
    samples = [sample for category in seen for sample in stream.samples.test(category)]
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0))
    features, scores = stream.stack(samples), torch.zeros(len(samples))
    for rows in order.split(32):
        logits = detector.learner.logits(features[rows], jointly=True).mean(0)
        scores[rows] = StateTable(detector.class_names).agnostic(logits) if detector.has_states else energy(logits)
    values = {}
    for category in seen:
        own = [place for place, sample in enumerate(samples) if sample.category == category]
        values[category] = auroc([samples[place].is_defect for place in own], scores[own].numpy())
    return values


# ------------------------------------------------------------------------------------------------ tables


@dataclass(frozen=True)
class Column:
    """A column of the table: its title, the value of a run, and the factor of the shown number."""

    title: str
    values: list[float | None]
    digits: int = 1


def columns(runs: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return the columns of a table for the runs of one method in one order."""
    last = [run["cl_metrics"][-1]["by_metric"] for run in runs]

    def stream_metric(metric: str, key: str) -> list[float | None]:
        return [_percent(row.get(metric, {}).get(key)) for row in last]

    def novelty(key: str) -> list[float | None]:
        return [_mean([row["energy"][key] for row in run["novelty"] if row], 100) for run in runs]

    return [
        Column("ACC", stream_metric("image_auroc", "acc")),
        Column("AIA", stream_metric("image_auroc", "aia")),
        Column("FM", stream_metric("image_auroc", "fm")),
        Column("BWT", stream_metric("image_auroc", "bwt")),
        Column("ACC, mixed batches", stream_metric("image_auroc_mixed", "acc")),
        Column("ACC, category given", stream_metric("image_auroc_s_cond", "acc")),
        Column("category top-1", [_percent(run["category_top1"][-1]) for run in runs]),
        Column("ECE", [_percent(run["ece"][-1]) for run in runs]),
        Column("novelty AUROC", novelty("auroc")),
        Column("AUPR", novelty("aupr")),
        Column("FPR95", novelty("fpr95")),
        Column("million values", [run["params_total"][-1] / 1e6 for run in runs], 3),
        Column("exemplars, MB", [(run["exemplars"][-1] or {"bytes": 0})["bytes"] / 1e6 for run in runs], 2),
        Column("s per task", [mean(run["seconds"]) for run in runs]),
    ]


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _mean(values: Sequence[float | None], factor: float) -> float | None:
    known = [factor * value for value in values if value is not None]
    return mean(known) if known else None


def print_tables(output: Path, orders: Sequence[int]) -> None:
    """Print a markdown table for each class space and order, from the finished runs."""
    for space, order in product(SPACES, orders):
        rows = [(name, _finished(output, space, name, order)) for name in METHODS_AND_ABLATIONS]
        rows = [(name, runs) for name, runs in rows if runs]
        if not rows:
            continue
        print(f"\n{space}, order {order}: {', '.join(rows[0][1][0]['config']['class_order'])}\n")
        heads = [column.title for column in columns(rows[0][1])]
        print("| method | runs | " + " | ".join(heads) + " |\n|" + "---|" * (len(heads) + 2))
        for name, runs in rows:
            print(f"| {name} | {len(runs)} | " + " | ".join(_cell(column) for column in columns(runs)) + " |")
        print_categories(rows)


def print_categories(rows: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> None:
    """Print the image AUROC of each category after the last task, for each method."""
    categories = rows[0][1][0]["config"]["class_order"]
    print("\n| image AUROC at the end | " + " | ".join(categories) + " |\n|" + "---|" * (len(categories) + 1))
    for name, runs in rows:
        last = [run["class_performance"][f"task_{len(run['seconds']) - 1}"] for run in runs]
        cells = [Column("", [_percent(row[category]["image_auroc"]) for row in last]) for category in categories]
        print(f"| {name} | " + " | ".join(map(_cell, cells)) + " |")


def _cell(column: Column) -> str:
    known = [value for value in column.values if value is not None]
    if not known:
        return ""
    text = f"{mean(known):.{column.digits}f}"
    return text if len(known) < 2 or column.title in _PLAIN else f"{text} ± {stdev(known):.{column.digits}f}"


_PLAIN = ("million values", "exemplars, MB", "s per task")


def _finished(output: Path, space: str, name: str, order: int) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(_folder(output, space, name, order).glob("*.json"))]


def _folder(output: Path, space: str, name: str, order: int) -> Path:
    return output / space / name.replace(", ", "_").replace(" ", "_") / f"order{order}"


def planned(spaces: Sequence[str], orders: Sequence[int], seeds: Sequence[int]) -> Iterator[tuple[str, str, int, int]]:
    """Yield class space, method, order and seed: the methods first, then the ablations, which have order 0 only."""
    for seed, space, order in product(seeds, spaces, orders):
        yield from ((space, name, order, seed) for name in METHODS)
    for seed, space in product(seeds, spaces):
        yield from ((space, name, 0, seed) for name in ABLATIONS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("categories", nargs="+", help="folders of DATA, in order 0")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--spaces", nargs="+", choices=SPACES, default=SPACES)
    parser.add_argument("--orders", nargs="+", type=int, default=(0, 1), help="values of protocol.order_seed; 0: none")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--methods", nargs="+", choices=METHODS_AND_ABLATIONS, metavar="NAME", help="only these rows")
    parser.add_argument("--features", action="store_true", help="encode all images, and stop")
    parser.add_argument("--table", action="store_true", help="print the tables of finished runs, and stop")
    words = parser.parse_args()
    if not words.table:
        streams = {space: encode(words.data, words.categories, space) for space in words.spaces}
        for space, name, order, seed in () if words.features else planned(words.spaces, words.orders, words.seeds):
            path = _folder(words.output, space, name, order) / f"{seed}.json"
            if path.exists() or (words.methods and name not in words.methods):
                continue
            started = time.perf_counter()
            results = run(streams[space], METHODS_AND_ABLATIONS[name], order, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(results))
            print(f"{space}, {name}, order {order}, seed {seed}: {time.perf_counter() - started:.0f} s", flush=True)
    print_tables(words.output, words.orders)


if __name__ == "__main__":
    main()
