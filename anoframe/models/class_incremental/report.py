"""What CLAP4CLIP reports about its learned state."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anoframe.models.class_incremental.network import ClapNetwork
from anoframe.models.summary import MethodSummary, Table

_NOTE = (
    "Mean standard deviation and mean norm of the mean, of what the adapter of a task gives for the text features of "
    "its classes alone, without an image. A new adapter starts near a standard deviation of 0.69."
)


@torch.no_grad()
def summarise(network: ClapNetwork, text: Tensor, groups: Sequence[range], classes: Sequence[str]) -> MethodSummary:
    """Summarise the adapters.

    Args:
        network: trained on the tasks of `groups`.
        text: `[C, d]`, unit text features; without those of a task whose prototypes have not been observed yet.
        groups: classes of each task.
        classes: names of all classes.
    """
    scalars: dict[str, float] = {
        "growth/adapters": len(network.adapters),
        "growth/adapter_values": sum(parameter.numel() for parameter in network.adapters.parameters()),
        "growth/classes": len(classes),
    }
    rows: list[tuple[str | float | None, ...]] = []
    for task, group in enumerate(groups):
        if group.stop > len(text):
            break
        posterior = network.adapter(task)(text[group.start : group.stop])
        std = None if posterior.std is None else round(float(posterior.std.mean()), 4)
        norm = round(float(posterior.mean.norm(dim=-1).mean()), 4)
        rows.append((task, ", ".join(classes[group.start : group.stop]), std, norm))
    if not rows:
        return MethodSummary(scalars)
    columns = ("task", "classes", "standard deviation", "norm of the mean")
    return MethodSummary(scalars, [Table("adapters", "Adapter of each task", columns, rows, note=_NOTE)])
