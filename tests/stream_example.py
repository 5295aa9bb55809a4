"""Made-up results of a stream of five tasks: adapters are added at eight sites, and `rope` has no masks."""

from __future__ import annotations

import json
from typing import Any

from anoframe.continual.results import stream_results
from anoframe.models.summary import MethodSummary, Series, Table

TASKS = [["felt", "mesh"], ["rope"], ["tile"], ["cork", "slate"], ["linen"]]
SITES = [(layer, "ffn") for layer in range(8)]
EXPANDED = {1: [0, 5], 2: [], 3: [0, 1, 5, 7], 4: [6]}  # task -> layers that got an adapter
METRIC_NAMES = ("image_auroc", "image_ap", "pixel_auroc", "aupro")


def rows(num_tasks: int = 5) -> list[dict[str, dict[str, float | None]]]:
    """Metrics of every category after each task: high right after training, lower after each later task."""
    return [
        {
            category: {name: _metric(name, category, after, task) for name in METRIC_NAMES}
            for task, categories in enumerate(TASKS)
            for category in categories
        }
        for after in range(num_tasks)
    ]


def _metric(name: str, category: str, after: int, task: int) -> float | None:
    if category == "rope" and name in ("pixel_auroc", "aupro"):
        return None
    ease = 0.01 * len(category) + 0.02 * METRIC_NAMES.index(name)
    return 0.55 + ease + 0.01 * after if task > after else 0.95 - ease - 0.04 * (after - task)


def summary_after(task: int) -> MethodSummary:
    """What a method that adds adapters reports after a task."""
    counts = [_num_adapters(layer, task) for layer, _ in SITES]
    totals = [sum(_num_adapters(layer, after) for layer, _ in SITES) for after in range(task + 1)]
    events = [_expansion(after, layer) for after in range(1, task + 1) for layer in EXPANDED[after]]
    per_layer = [
        {"layer_id": layer, "kind": kind, "num_adapters": count}
        for (layer, kind), count in zip(SITES, counts, strict=True)
    ]
    sites = {f"growth/layer_{layer}_{kind}": count for (layer, kind), count in zip(SITES, counts, strict=True)}
    return MethodSummary(
        scalars={"growth/total_adapters": totals[-1], **sites},
        tables=[_adapter_table(task), _expansion_table(events)],
        series=[Series("adapters", list(enumerate(totals)))],
        message=f"{totals[-1]} adapters at {len(SITES)} sites",
        config_records={"sema_config": {"expansion_threshold": 3.0, "position": "ffn"}},
        task_records={
            "adapter_stats": {
                "total_modules": len(SITES),
                "total_adapters": totals[-1],
                "adapters_per_layer": per_layer,
            }
        },
        stream_records={"expansions": events},
    )


def _num_adapters(layer: int, task: int) -> int:
    return 1 + sum(layer in EXPANDED[after] for after in range(1, task + 1))


def _adapter_table(task: int) -> Table:
    columns = ["layer", *(f"after {after}" for after in range(task + 1))]
    rows = [[f"{layer} {kind}", *(_num_adapters(layer, after) for after in range(task + 1))] for layer, kind in SITES]
    return Table("adapters", "Adapters", columns, rows, "Number of adapters at each site.", shaded=True)


def _expansion_table(events: list[dict[str, Any]]) -> Table:
    columns = ["task", "layer", "pass", "batch", "lowest z", "z of each adapter"]
    rows = [
        [
            event["task"],
            " ".join(map(str, event["site"])),
            event["pass"],
            event["batch"],
            event["min_z"],
            ", ".join(f"{z:.2f}" for z in event["all_z"]),
        ]
        for event in events
    ]
    return Table("expansions", "Expansions", columns, rows)


def _expansion(task: int, layer: int) -> dict[str, Any]:
    all_z = [3.5 + 0.25 * layer + 2 * slot for slot in range(_num_adapters(layer, task - 1))]
    return {"task": task, "site": [layer, "ffn"], "batch": layer % 2, "pass": 0, "min_z": min(all_z), "all_z": all_z}


def _as_read(summary: MethodSummary) -> Any:
    """The summary as it is read from the file of a task."""
    return json.loads(json.dumps(summary.to_json()))


def stream_example(num_tasks: int = 5, strategy: str = "native") -> dict[str, Any]:
    """Content of `results/continual.json` after the first tasks."""
    expands = strategy == "native"
    about = [
        {
            "seconds": 120.5 if task == 0 else 30.25,
            "params_total": 7_717_392 + (66_433 * sum(_num_adapters(layer, task) for layer, _ in SITES) * expands),
            "params_trainable": 7_717_392 if task == 0 or not expands else 66_433 * len(EXPANDED[task]),
            "summary": _as_read(summary_after(task) if expands else MethodSummary()),
        }
        for task in range(num_tasks)
    ]
    order = [category for task in TASKS for category in task]
    head = {"seed": 0, "git": "0" * 40, "strategy": strategy, "class_order": order, "key_metric": "pixel_auroc"}
    return stream_results(TASKS, rows(num_tasks), about, head)
