"""What `results/continual.json` says of a stream of tasks, read and checked. Its keys: docs/continual.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anoframe.continual.results import JOINT
from anoframe.evaluation.results import Metrics
from anoframe.report.number_checks import finite, finite_or_none, metrics_of

Site = tuple[int, str]  # layer, and which of its sub-layers


@dataclass(frozen=True)
class Expansion:
    """One slot that was added."""

    task: int
    site: Site
    scan: int  # which pass over the images of the task
    batch: int
    least_z: float
    slot_z: list[float]  # of each slot that was there


@dataclass(frozen=True)
class Stream:
    """A continual run after as many tasks as were learned: what follows has an entry for each of them."""

    tasks: list[list[str]]  # categories; of those too that are still to be learned
    strategy: str
    key_metric: str
    threshold: Any  # of z, None where it is not told
    matrices: dict[str, list[list[float | None]]]  # metric -> [after a task][task]
    by_metric: list[dict[str, Metrics]]  # metric -> acc, fm, ...
    classes: list[dict[str, Metrics]]  # category -> metrics
    adapters: list[dict[Site, int]]
    expansions: list[Expansion]
    params_total: list[int]
    params_trainable: list[int]
    seconds: list[float]

    @property
    def learned(self) -> int:
        """How many entries there are."""
        return len(self.by_metric)

    def seen(self, entry: int) -> int:
        """How many tasks were learned by then."""
        return len(self.tasks) if self.strategy == JOINT else entry + 1

    @property
    def last(self) -> dict[str, Metrics]:
        """Metric -> acc, fm, ... at the end."""
        return self.by_metric[-1] if self.by_metric else {}

    def over_tasks(self, metric: str, key: str) -> list[tuple[int, float]]:
        """The last task that was learned, and `acc`, `fm`, ... of a metric after it, where it is available."""
        values = [one.get(metric, {}).get(key) for one in self.by_metric]
        return [(self.seen(i) - 1, value) for i, value in enumerate(values) if value is not None]

    @property
    def sites(self) -> list[Site]:
        """In the order in which they are passed through."""
        return list(dict.fromkeys(site for one in self.adapters for site in one))


def stream_of(tree: Mapping[str, Any]) -> Stream:
    """Raises KeyError, TypeError, ValueError or AttributeError where the tree is damaged."""
    config, count = tree["config"], len(tree["cl_metrics"])
    stream = Stream(
        tasks=[[str(category) for category in task] for task in config["tasks"]],
        strategy=str(config["strategy"]),
        key_metric=str(config["key_metric"]),
        threshold=config["sema_config"].get("expansion_threshold"),
        matrices={str(name): _matrix(rows) for name, rows in tree["R"].items()},
        by_metric=[
            {str(name): metrics_of(values) for name, values in one["by_metric"].items()} for one in tree["cl_metrics"]
        ],
        classes=[
            {str(category): metrics_of(values) for category, values in tree["class_performance"][f"task_{i}"].items()}
            for i in range(count)
        ],
        adapters=[_adapters(one) for one in tree["adapter_stats"]],
        expansions=[_expansion(one) for one in tree["expansions"]],
        params_total=[int(value) for value in tree["params_total"]],
        params_trainable=[int(value) for value in tree["params_trainable"]],
        seconds=[finite(value) for value in tree["seconds"]],
    )
    _check(stream)
    return stream


def _check(stream: Stream) -> None:
    """ValueError where parts of it are of different streams."""
    count = stream.learned
    if stream.seen(count - 1) > len(stream.tasks):
        raise ValueError(f"{count} tasks are learned of {len(stream.tasks)}")
    for name in ("adapters", "params_total", "params_trainable", "seconds"):
        if len(getattr(stream, name)) != count:
            raise ValueError(f"{name} has {len(getattr(stream, name))} entries, for {count} tasks")
    for name, rows in stream.matrices.items():
        if [len(row) for row in rows] != [len(stream.tasks)] * count:
            raise ValueError(f"the matrix of {name} has another shape than {count} x {len(stream.tasks)}")


def _matrix(rows: Sequence[Sequence[Any]]) -> list[list[float | None]]:
    return [[finite_or_none(value) for value in row] for row in rows]


def _adapters(stats: Mapping[str, Any]) -> dict[Site, int]:
    """Site -> slots; empty where nothing can grow."""
    rows = stats.get("adapters_per_layer", [])
    found = {(int(row["layer_id"]), str(row.get("kind", ""))): int(row["num_adapters"]) for row in rows}
    if sum(found.values()) != stats.get("total_adapters", 0):
        raise ValueError(f"total_adapters is {stats.get('total_adapters')}, and the sum is {sum(found.values())}")
    return found


def _expansion(row: Mapping[str, Any]) -> Expansion:
    layer, kind = row["site"]
    slots = [finite(z) for z in row["all_z"]]
    return Expansion(
        int(row["task"]), (int(layer), str(kind)), int(row["pass"]), int(row["batch"]), finite(row["min_z"]), slots
    )
