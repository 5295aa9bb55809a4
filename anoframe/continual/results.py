"""What a stream of tasks gave: `results/continual.json`, after any number of its tasks. Its keys: docs/continual.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anoframe.evaluation.results import Metrics, percent
from anoframe.metrics import continual
from anoframe.metrics.continual import Matrix, mean_of

STREAM = "continual.json"  # file name of the results of a task stream, in `results/`
JOINT = "joint"  # the strategy that learns all tasks at once
# What a detector gets that gives everything the same score (docs/metrics.md): the baseline of forward transfer.
_CONSTANT_SCORE = {"image_auroc": 0.5, "pixel_auroc": 0.5, "aupro": 0.15}


def stream_results(
    tasks: Sequence[Sequence[str]],
    rows: Sequence[Mapping[str, Metrics]],
    about: Sequence[Mapping[str, Any]],
    head: Mapping[str, Any],
) -> dict[str, Any]:
    """What `results/continual.json` holds, as JSON types.

    Args:
        tasks: the categories of each task, of those too that are still to be learned.
        rows: for each task that was learned, the metrics after it of all categories of the stream. The strategy
            "joint" has one row, in which every task is learned.
        about: for each row `seconds`, `params_total`, `params_trainable`, and `growth` where something can grow.
        head: `seed`, `git`, `strategy`, `class_order`, and `key_metric`, of which the seed's format has the averages.
    """
    if len(rows) != len(about):
        raise ValueError(f"{len(rows)} rows of metrics, and {len(about)} entries that say how they were learned")
    names = dict.fromkeys(name for row in rows for metrics in row.values() for name in metrics)
    matrices = {name: _matrix(tasks, rows, name) for name in names}
    grown = [one.get("growth") or {} for one in about]
    seen = [len(tasks) if head["strategy"] == JOINT else i + 1 for i in range(len(rows))]
    return {
        "config": {
            "class_order": list(head["class_order"]),
            "num_tasks": len(tasks),
            "classes_per_task": [len(task) for task in tasks],
            "tasks": [list(task) for task in tasks],
            "strategy": head["strategy"],
            "key_metric": head["key_metric"],
            "sema_config": grown[-1].get("sema_config", {}) if grown else {},
        },
        "task_performance": {
            f"task_{i}": {f"eval_{j}": {name: matrices[name][i][j] for name in names} for j in range(count)}
            for i, count in enumerate(seen)
        },
        "class_performance": {
            f"task_{i}": {category: dict(metrics) for category, metrics in row.items()} for i, row in enumerate(rows)
        },
        "cl_metrics": [
            _cl_metrics(tasks, rows[: i + 1], matrices, count, head["key_metric"]) for i, count in enumerate(seen)
        ],
        "adapter_stats": [one.get("adapter_stats", {}) for one in grown],
        "expansions": grown[-1].get("expansions", []) if grown else [],
        "R": matrices,
        **{name: [one[name] for one in about] for name in ("params_total", "params_trainable", "seconds")},
        "seed": head["seed"],
        "git": head["git"],
    }


def _matrix(
    tasks: Sequence[Sequence[str]], rows: Sequence[Mapping[str, Metrics]], name: str
) -> list[list[float | None]]:
    """The mean of a metric over the categories of each task that have it."""
    return [[mean_of(row.get(category, {}).get(name) for category in task) for task in tasks] for row in rows]


def _cl_metrics(
    tasks: Sequence[Sequence[str]],
    rows: Sequence[Mapping[str, Metrics]],
    matrices: Mapping[str, Matrix],
    seen: int,
    key_metric: str,
) -> dict[str, Any]:
    """What is to be said after the last of these rows; `matrices` may go on beyond it."""
    until = {name: matrix[: len(rows)] for name, matrix in matrices.items()}
    classes = [category for task in tasks[:seen] for category in task]
    forgotten = continual.forgetting_of_each(until[key_metric])
    return {
        "average_performance": continual.average(until[key_metric], seen),
        "average_forgetting": continual.forgetting(until[key_metric]),
        "forgetting_per_task": {str(task): value for task, value in enumerate(forgotten)},
        "by_metric": {
            name: {
                "acc": continual.average(matrix, seen),
                "acc_classes": mean_of(rows[-1].get(category, {}).get(name) for category in classes),
                **_over_time(matrix, seen, _CONSTANT_SCORE.get(name)),
            }
            for name, matrix in until.items()
        },
    }


def _over_time(matrix: Matrix, seen: int, constant: float | None) -> Metrics:
    """What compares values at several times; nothing of it is known where all tasks were learned at once."""
    if seen != len(matrix):
        return dict.fromkeys(("aia", "fm", "fm_diagonal", "bwt", "fwt"))
    return {
        "aia": continual.average_incremental(matrix),
        "fm": continual.forgetting(matrix),
        "fm_diagonal": continual.forgetting_from_diagonal(matrix),
        "bwt": continual.backward_transfer(matrix),
        "fwt": continual.forward_transfer(matrix, None if constant is None else [constant] * len(matrix[0])),
    }


# ------------------------------------------------------------------------------------------------ for the console


def stream_line(results: Mapping[str, Any]) -> str:
    """What a person wants to know after a task, from `stream_results` of at least one.

    For example: `after task 1 of 0 to 4: pixel_auroc 91.20 (ACC), forgetting 0.80; image_auroc ...`.
    """
    known = results["cl_metrics"][-1]["by_metric"]
    parts = [
        f"{name} {percent(known[name]['acc'])} (ACC), forgetting {percent(known[name]['fm'])}"
        for name in ("image_auroc", "pixel_auroc", "aupro")
        if name in known
    ]
    last, count = len(results["cl_metrics"]) - 1, results["config"]["num_tasks"]
    when = "all tasks at once" if results["config"]["strategy"] == JOINT else f"after task {last} of 0 to {count - 1}"
    return f"{when}: {'; '.join(parts)}"


def growth_line(growth: Mapping[str, Any], task: int) -> str:
    """Adapters after a task, and how many that task added, or how near it came; empty where nothing can grow."""
    if "adapter_stats" not in growth:
        return ""
    stats = growth["adapter_stats"]
    line = f"{stats['total_adapters']} adapters at {stats['total_modules']} sites"
    if task == 0:  # which is not scanned: it comes with an adapter a site
        return line
    added = sum(event["task"] == task for event in growth.get("expansions", []))
    judged = _judged(growth, task)
    nearest = f" (z up to {max(judged):.2f}, {_bound(growth)})" if judged and not added else ""
    return f"{line}; task {task} added {added or 'none'}{nearest}"


def expansion_line(event: Mapping[str, Any]) -> str:
    """One of `expansions`, when it happens."""
    layer, kind = event["site"]
    return f"task {event['task']} grows an adapter at layer {layer} {kind} (z {event['min_z']:.2f})"


def _judged(growth: Mapping[str, Any], task: int) -> list[float]:
    """z, of the least strange slot, of each batch of a task at each site that might have expanded."""
    scans = [scan["min_z"] for scan in growth.get("scans", []) if scan["task"] == task]
    if not scans:
        return []
    first, last = (growth["sema_config"][key] for key in ("expand_start", "expand_end"))
    inside = [first <= layer["layer_id"] <= last for layer in growth["adapter_stats"]["adapters_per_layer"]]
    return [z for found in scans for z, may in zip(found, inside, strict=True) if may]


def _bound(growth: Mapping[str, Any]) -> str:
    threshold = growth["sema_config"]["expansion_threshold"]
    return "no threshold" if threshold is None else f"threshold {threshold:g}"
