"""Paths of images through the slots, for routing by reconstruction.

A *path* fixes the slot of some sites: site index -> slot. The path of a task uses the slots that were created in it;
sites without such a slot are not part of the path and mix their slots. An empty path mixes at all sites.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from anoframe.models.sema_uniad.progress import Progress

Path = Mapping[int, int]


def task_path(slot_tasks: Sequence[Sequence[int]], task: int) -> Path:
    """The path of a task.

    Args:
        slot_tasks: for each site, the task in which each of its slots was created.
        task: the task.
    """
    return {site: tasks.index(task) for site, tasks in enumerate(slot_tasks) if task in tasks}


def task_paths(slot_tasks: Sequence[Sequence[int]]) -> list[Path]:
    """The paths of all tasks that have slots, the oldest first."""
    return [task_path(slot_tasks, task) for task in sorted({task for tasks in slot_tasks for task in tasks})]


def training_paths(paths: list[Path], progress: Progress) -> list[Path]:
    """The paths that images of the current task may use: only its own as soon as it has slots.

    Args:
        paths: all paths, the newest last.
        progress: state of the stream.
    """
    has_own_slots = any(map(progress.has_expanded, range(len(progress.slot_tasks))))
    return paths[-1:] if has_own_slots and not progress.finished else paths


def best_path(errors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Choose for each image the path with the smallest mean squared error, the oldest of equal ones.

    Args:
        errors: reconstruction error along each path, `[B, h, w]` each.

    Returns:
        Index `(path [B], image [B])` into values stacked over paths.
    """
    squared = torch.stack([error.square().flatten(1).mean(1) for error in errors])
    return squared.argmin(0), torch.arange(squared.shape[1], device=squared.device)
