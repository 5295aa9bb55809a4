"""Results of a stream of classes of labelled images: `results/continual.json` with the keys of every stream, and more.

Further keys, lists with one entry per trained task: `category_top1`, `ece`, `novelty` (confidence -> `auroc`, `aupr`,
`fpr95`; None after the last task) and `classification` (what else was measured on all seen images together).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anoframe.continual.names import JOINT
from anoframe.continual.results import stream_results
from anoframe.evaluation.results import percent

KEY_METRIC = "accuracy"
CONFIDENCE = "energy"  # of the line on the console


def class_stream_results(
    tasks: Sequence[Sequence[str]], rows: Sequence[Mapping[str, Any]], head: Mapping[str, Any]
) -> dict[str, Any]:
    """Content of `results/continual.json`, as JSON types.

    Args:
        tasks: classes of each task of the stream, finished or not.
        rows: for each finished task `row` (class -> metrics), `about` and `facts`, see `runs/class_evaluation.py`.
        head: as for `stream_results`, without `key_metric`.
    """
    metrics, about = [row["row"] for row in rows], [row["about"] for row in rows]
    results = stream_results(tasks, metrics, about, {**head, "key_metric": KEY_METRIC})
    facts = [row["facts"] for row in rows]
    kept = ("top5", "top1_mixed", "ece_mixed", "reliability", "classes", "confusion")
    exemplars = [entry["exemplars"] for entry in about]
    return {
        **results,
        "category_top1": [entry["top1"] for entry in facts],
        "ece": [entry["ece"] for entry in facts],
        "novelty": [entry["novelty"] for entry in facts],
        "classification": [{key: entry[key] for key in kept if key in entry} for entry in facts],
        "exemplars": exemplars,
    }


def class_stream_line(results: Mapping[str, Any]) -> str:
    """One line for the console on the latest task, from `class_stream_results`."""
    last = results["cl_metrics"][-1]["by_metric"]
    novelty = (results["novelty"][-1] or {}).get(CONFIDENCE) or {}
    parts = [
        f"accuracy {percent(last[KEY_METRIC]['acc'])} (ACC), forgetting {percent(last[KEY_METRIC]['fm'])}",
        f"in mixed batches {percent(last['accuracy_mixed']['acc'])}",
        f"ECE {percent(results['ece'][-1])}",
        f"novelty AUROC {percent(novelty.get('auroc'))}",
    ]
    task, end = len(results["cl_metrics"]) - 1, results["config"]["num_tasks"] - 1
    when = "all tasks at once" if results["config"]["strategy"] == JOINT else f"after task {task} (tasks 0 to {end})"
    return f"{when}: {'; '.join(parts)}"
