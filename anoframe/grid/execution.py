"""Run cells in this process, in several processes, or on Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anoframe.grid.cell_type import AnyCell
from anoframe.grid.process_pool import run_in_processes
from anoframe.grid.ray_backend import check_ray, run_on_ray
from anoframe.grid.scheduler import Scheduler
from anoframe.grid.workers import Workers
from anoframe.report.grid_table import Failure


def run_cells(
    cells: Sequence[AnyCell], workers: Workers, log_folder: Path, address: str | None = None, cores: int = 1
) -> list[Failure]:
    """Run every cell that is not done.

    Args:
        cells: in the order in which they start.
        workers: 0 runs them one after another in this process, N in N processes, `"ray"` on a Ray cluster.
        log_folder: of the logs of the processes.
        address: of a Ray cluster; None starts one on this machine.
        cores: per cell on Ray.

    Returns:
        Failures in the order of their ends.

    Raises:
        AnoframeError: Ray is not installed or not reachable, or `workers` is below 0.
    """
    with Scheduler(cells) as scheduler:
        if workers == "ray":
            run_on_ray(scheduler, address, cores)
        elif workers:
            run_in_processes(scheduler, workers, log_folder)
        else:
            while (cell := scheduler.next_cell()) is not None:
                scheduler.finish(cell, cell.run())
    return scheduler.failures


def check_workers(workers: Workers) -> None:
    """Raise AnoframeError if the cells cannot run there, before anything is planned."""
    if workers == "ray":
        check_ray()
