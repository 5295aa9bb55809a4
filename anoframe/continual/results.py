"""Results of a stream of tasks: content of `results/continual.json`, whose keys docs/continual.md explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anoframe.continual.names import JOINT
from anoframe.evaluation.results import Metrics, percent
from anoframe.metrics import continual
from anoframe.metrics.catalogue import METRICS, SUMMARY
from anoframe.metrics.catalogue import STREAM as STREAM_METRICS
from anoframe.metrics.continual import Matrix, mean_available

STREAM = "continual.json"  # file name of the results of a task stream, in `results/`

OPTIONAL_RECORDS = ("category_top1", "ece", "novelty", "classification", "exemplars")

# External scripts read these keys, so they exist for every method: the values of a method whose summary has no such
# record. `adapter_stats` is a list over tasks of this value.
_DEFAULT_CONFIG_RECORDS: Mapping[str, Any] = {"sema_config": {}}
_DEFAULT_TASK_RECORDS: Mapping[str, Any] = {"adapter_stats": {}}
_DEFAULT_STREAM_RECORDS: Mapping[str, Any] = {"expansions": []}


def stream_results(
    tasks: Sequence[Sequence[str]],
    rows: Sequence[Mapping[str, Metrics]],
    about: Sequence[Mapping[str, Any]],
    head: Mapping[str, Any],
) -> dict[str, Any]:
    """Content of `results/continual.json`, as JSON types.

    Args:
        tasks: categories of each task of the stream, finished or not.
        rows: for each finished task the metrics of all categories of the stream after it. The strategy "joint" has one
            row, after which all tasks are finished.
        about: for each row `seconds`, `params_total`, `params_trainable`, and `summary`, the method's summary as JSON
            types (see anoframe/models/summary.py); a missing summary is empty. Further, of methods that have them,
            `exemplars` (`images` and `bytes` on disk) and `classes` (`category_top1`, `ece`, `classification`,
            `novelty`; see anoframe/evaluation/class_measures.py): each becomes a list over the tasks.
        head: `seed`, `git`, `strategy`, `class_order`, and `key_metric`, the metric of `average_performance` and
            `average_forgetting`.
    """
    if len(rows) != len(about):
        raise ValueError(f"{len(rows)} rows of metrics, but {len(about)} entries in `about`")
    names = dict.fromkeys(name for row in rows for metrics in row.values() for name in metrics)
    matrices = {name: _matrix(tasks, rows, name) for name in names}
    seen = [len(tasks) if head["strategy"] == JOINT else i + 1 for i in range(len(rows))]
    summaries = [entry.get("summary") or {} for entry in about]
    return {
        "config": {
            "class_order": list(head["class_order"]),
            "num_tasks": len(tasks),
            "classes_per_task": [len(task) for task in tasks],
            "tasks": [list(task) for task in tasks],
            "strategy": head["strategy"],
            "key_metric": head["key_metric"],
            **_latest(summaries, "config_records", _DEFAULT_CONFIG_RECORDS),
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
        **_task_records(summaries),
        **_latest(summaries, "stream_records", _DEFAULT_STREAM_RECORDS),
        "method_summaries": _method_summaries(summaries),
        **_optional_records(about),
        "R": matrices,
        **{name: [entry[name] for entry in about] for name in ("params_total", "params_trainable", "seconds")},
        "seed": head["seed"],
        "git": head["git"],
    }


# ------------------------------------------------------------------------------------------------ metrics


def _matrix(
    tasks: Sequence[Sequence[str]], rows: Sequence[Mapping[str, Metrics]], name: str
) -> list[list[float | None]]:
    """Matrix of a metric: for each row the mean over the categories of each task, without those that lack it."""
    return [[mean_available(row.get(category, {}).get(name) for category in task) for task in tasks] for row in rows]


def _cl_metrics(
    tasks: Sequence[Sequence[str]],
    rows: Sequence[Mapping[str, Metrics]],
    matrices: Mapping[str, Matrix],
    seen: int,
    key_metric: str,
) -> dict[str, Any]:
    """Continual learning metrics after the last of `rows`, when `seen` tasks are finished.

    Args:
        matrices: of all metrics; they may have more rows than `rows`.
    """
    until = {name: matrix[: len(rows)] for name, matrix in matrices.items()}
    categories = [category for task in tasks[:seen] for category in task]
    forgetting_per_task = continual.forgetting_per_task(until[key_metric])
    return {
        "average_performance": continual.average(until[key_metric], seen),
        "average_forgetting": continual.forgetting(until[key_metric]),
        "forgetting_per_task": {str(task): value for task, value in enumerate(forgetting_per_task)},
        "by_metric": {
            name: _stream_metrics(matrix, [rows[-1].get(category, {}).get(name) for category in categories], seen, name)
            for name, matrix in until.items()
        },
    }


def _stream_metrics(
    matrix: Matrix, category_values: Sequence[float | None], seen: int, name: str
) -> dict[str, float | None]:
    """All stream metrics of one metric. Those that compare points in time are None if all tasks came at once.

    Args:
        category_values: of the categories seen so far, after the last row.
        name: of the metric.
    """
    values: dict[str, float | None] = dict.fromkeys(STREAM_METRICS)
    values |= {"acc": continual.average(matrix, seen), "acc_classes": mean_available(category_values)}
    if seen == len(matrix):
        constant = METRICS[name].constant_score if name in METRICS else None
        baseline = None if constant is None else [constant] * len(matrix[0])
        values |= {
            "aia": continual.average_incremental(matrix),
            "fm": continual.forgetting(matrix),
            "fm_diagonal": continual.forgetting_from_diagonal(matrix),
            "bwt": continual.backward_transfer(matrix),
            "fwt": continual.forward_transfer(matrix, baseline),
        }
    return values


# ------------------------------------------------------------------------------------------------ method summaries


def _latest(summaries: Sequence[Mapping[str, Any]], key: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Records that the latest summary has under a key, with defaults for missing ones."""
    return {**defaults, **(summaries[-1].get(key, {}) if summaries else {})}


def _task_records(summaries: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Task records of all summaries: one list per record, with one entry per task."""
    records = [summary.get("task_records", {}) for summary in summaries]
    names = dict.fromkeys([*_DEFAULT_TASK_RECORDS, *(name for record in records for name in record)])
    return {name: [record.get(name, _DEFAULT_TASK_RECORDS.get(name)) for record in records] for name in names}


def _optional_records(about: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Lists over the tasks of what only some methods have; no key that no task has."""
    rows = [{**entry.get("classes", {}), **{k: entry[k] for k in ("exemplars",) if k in entry}} for entry in about]
    return {name: [row.get(name) for row in rows] for name in OPTIONAL_RECORDS if any(name in row for row in rows)}


def _method_summaries(summaries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Scalars after each task; tables and series only after the latest one, because they contain the earlier ones."""
    last = len(summaries) - 1
    return [
        {
            "scalars": dict(summary.get("scalars", {})),
            "tables": list(summary.get("tables", ())) if task == last else [],
            "series": list(summary.get("series", ())) if task == last else [],
        }
        for task, summary in enumerate(summaries)
    ]


# ------------------------------------------------------------------------------------------------ console


def stream_line(results: Mapping[str, Any]) -> str:
    """One line for the console with the summary metrics after the latest task, from `stream_results`.

    For example: `after task 1 (tasks 0 to 4): pixel_auroc 91.20 (ACC), forgetting 0.80; aupro ...`.
    """
    by_metric = results["cl_metrics"][-1]["by_metric"]
    parts = [
        f"{name} {percent(by_metric[name]['acc'])} (ACC), forgetting {percent(by_metric[name]['fm'])}"
        for name in SUMMARY
        if name in by_metric
    ]
    if "category_top1" in results:
        parts.append(f"category top-1 {percent(results['category_top1'][-1])}, ECE {percent(results['ece'][-1])}")
    task, last = len(results["cl_metrics"]) - 1, results["config"]["num_tasks"] - 1
    when = "all tasks at once" if results["config"]["strategy"] == JOINT else f"after task {task} (tasks 0 to {last})"
    return f"{when}: {'; '.join(parts)}"
