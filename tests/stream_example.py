"""A stream of five tasks whose numbers are made up: eight sites grow, and `rope` has no masks."""

from __future__ import annotations

from typing import Any

from anoframe.continual.results import stream_results

TASKS = [["felt", "mesh"], ["rope"], ["tile"], ["cork", "slate"], ["linen"]]
SITES = [(layer, "ffn") for layer in range(8)]
GROWN = {1: [0, 5], 2: [], 3: [0, 1, 5, 7], 4: [6]}  # task -> layers that expanded
NAMES = ("image_auroc", "image_ap", "pixel_auroc", "aupro")


def rows(count: int = 5) -> list[dict[str, dict[str, float | None]]]:
    """Metrics of every category after each task: high when it is learned, lower with each later one."""
    return [
        {
            category: {name: _metric(name, category, after, task) for name in NAMES}
            for task, categories in enumerate(TASKS)
            for category in categories
        }
        for after in range(count)
    ]


def _metric(name: str, category: str, after: int, task: int) -> float | None:
    if category == "rope" and name in ("pixel_auroc", "aupro"):
        return None
    ease = 0.01 * len(category) + 0.02 * NAMES.index(name)
    return 0.55 + ease + 0.01 * after if task > after else 0.95 - ease - 0.04 * (after - task)


def growth(task: int) -> dict[str, Any]:
    """What an expanding detector tells after a task."""
    counts = [1 + sum(layer in GROWN[one] for one in range(1, task + 1)) for layer, _ in SITES]
    return {
        "adapter_stats": {
            "total_modules": len(SITES),
            "total_adapters": sum(counts),
            "adapters_per_layer": [
                {"layer_id": layer, "kind": kind, "num_adapters": count}
                for (layer, kind), count in zip(SITES, counts, strict=True)
            ],
        },
        "expansions": [_expansion(one, layer) for one in range(1, task + 1) for layer in GROWN[one]],
        "sema_config": {"expansion_threshold": 3.0, "position": "ffn"},
    }


def _expansion(task: int, layer: int) -> dict[str, Any]:
    slots = 1 + sum(layer in GROWN[one] for one in range(1, task))
    all_z = [3.5 + 0.25 * layer + 2 * slot for slot in range(slots)]
    return {"task": task, "site": [layer, "ffn"], "batch": layer % 2, "pass": 0, "min_z": min(all_z), "all_z": all_z}


def stream_example(learned: int = 5, strategy: str = "expand") -> dict[str, Any]:
    """What `results/continual.json` holds after so many of its tasks."""
    grows = strategy == "expand"
    about = [
        {
            "seconds": 120.5 if task == 0 else 30.25,
            "params_total": 7_717_392 + (66_433 * growth(task)["adapter_stats"]["total_adapters"] if grows else 0),
            "params_trainable": 7_717_392 if task == 0 or not grows else 66_433 * len(GROWN[task]),
            "growth": growth(task) if grows else {},
        }
        for task in range(learned)
    ]
    order = [category for task in TASKS for category in task]
    head = {"seed": 0, "git": "0" * 40, "strategy": strategy, "class_order": order, "key_metric": "pixel_auroc"}
    return stream_results(TASKS, rows(learned), about, head)
