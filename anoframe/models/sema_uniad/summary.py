"""What a run reports about SEMA-UniAD: adapters per site and task, expansions, and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anoframe.models.sema_uniad.adapters import AdapterSite
from anoframe.models.sema_uniad.progress import Progress
from anoframe.models.sema_uniad.settings import SemaSettings
from anoframe.models.summary import MethodSummary, Series, Table


def summarize(settings: SemaSettings, sites: Sequence[AdapterSite], progress: Progress) -> MethodSummary:
    """Summary of a detector after the current task."""
    counts = {site: _slots_after_tasks(tasks, progress) for site, tasks in zip(sites, progress.slot_tasks, strict=True)}
    totals = [sum(column) for column in zip(*counts.values(), strict=True)]
    layers = [
        {"layer_id": site.layer_id, "kind": site.kind, "num_adapters": slots[-1]} for site, slots in counts.items()
    ]
    scalars = {"growth/total_adapters": totals[-1]}
    scalars |= {f"growth/layer_{site.layer_id}_{site.kind}": slots[-1] for site, slots in counts.items()}
    stats = {"total_modules": len(layers), "total_adapters": totals[-1], "adapters_per_layer": layers}
    return MethodSummary(
        scalars=scalars,
        tables=[_adapter_table(counts, len(totals)), _expansion_table(settings, progress)],
        series=[Series("adapters", list(enumerate(totals)))],
        message=_message(settings, sites, progress, totals[-1]),
        config_records={"sema_config": settings.record()},
        task_records={"adapter_stats": stats},
        stream_records={"expansions": progress.expansions},
    )


def expansion_messages(progress: Progress) -> list[str]:
    """One line per expansion of the stream so far."""
    return [
        "task {}: new adapter at layer {} {} (z {:.2f})".format(event["task"], *event["site"], event["min_z"])
        for event in progress.expansions
    ]


def _slots_after_tasks(slot_tasks: Sequence[int], progress: Progress) -> list[int]:
    """Number of a site's slots after each task so far."""
    return [sum(created <= task for created in slot_tasks) for task in range((progress.task or 0) + 1)]


def _adapter_table(counts: Mapping[AdapterSite, Sequence[int]], tasks: int) -> Table:
    return Table(
        "adapters",
        "Adapters",
        ["Layer", *(f"Task {task}" for task in range(tasks))],
        [[_location(site.layer_id, site.kind), *slots] for site, slots in counts.items()],
        note="Number of adapters at each site after each task.",
        shaded=True,
    )


def _expansion_table(settings: SemaSettings, progress: Progress) -> Table:
    note = "Expansion is off: model.sema.expansion_threshold is None."
    if settings.expansion_threshold is not None:
        note = (
            f"A site gets an adapter if the z-score of each of its adapters, averaged over a batch, is above "
            f"{settings.expansion_threshold:g}. At most one adapter is added per site and task."
        )
    rows = [
        [
            event["task"],
            _location(*event["site"]),
            event["pass"],
            event["batch"],
            event["min_z"],
            ", ".join(f"{z:.2f}" for z in event["all_z"]),
        ]
        for event in progress.expansions
    ]
    columns = ["Task", "Layer", "Pass", "Batch", "Least z", "z of each adapter"]
    return Table("expansions", "Expansions", columns, rows, note)


def _location(layer_id: int, kind: str) -> str:
    return f"{layer_id} {kind}"


def _message(settings: SemaSettings, sites: Sequence[AdapterSite], progress: Progress, total: int) -> str:
    """For example `15 adapters at 8 sites; task 1 added 2`; without an expansion, with the largest z of the scan."""
    message = f"{total} adapters at {len(sites)} sites"
    if not progress.task:  # the first task is not scanned: it starts with one adapter per site
        return message
    added = sum(event["task"] == progress.task for event in progress.expansions)
    if added:
        return f"{message}; task {progress.task} added {added}"
    return f"{message}; task {progress.task} added none{_largest_z(settings, sites, progress)}"


def _largest_z(settings: SemaSettings, sites: Sequence[AdapterSite], progress: Progress) -> str:
    """The largest z-score, over all batches of the task and all sites that may expand, of the least novel slot."""
    scans: list[list[Any]] = [scan["min_z"] for scan in progress.scans if scan["task"] == progress.task]
    may_expand = [settings.may_expand(site.layer_id) for site in sites]
    z_scores = [z for scan in scans for z, counts in zip(scan, may_expand, strict=True) if counts]
    if not z_scores:
        return ""
    threshold = settings.expansion_threshold
    limit = "no threshold" if threshold is None else f"threshold {threshold:g}"
    return f" (largest z {max(z_scores):.2f}, {limit})"
