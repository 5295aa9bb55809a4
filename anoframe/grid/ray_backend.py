"""Cells on a Ray cluster, or on a local one that is started for the grid. Needs the extra `ray`."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import anoframe
from anoframe.errors import AnoframeError
from anoframe.grid.cell_type import AnyCell
from anoframe.grid.scheduler import Scheduler

_START_ATTEMPTS = 3  # Ray gives a local cluster 30 seconds to start; a busy machine may need longer


def run_on_ray(scheduler: Scheduler, address: str | None = None, cores: int = 1) -> None:
    """Run all waiting cells, as many at a time as the cluster has cores for.

    A cell uses one GPU if the cluster has any and its config allows one. All nodes need anoframe, the data at the same
    path, and a shared output folder.

    Args:
        address: of a running cluster; None starts one on this machine.
        cores: cores per cell.

    Raises:
        AnoframeError: Ray is not installed, no cluster answers at the address, or it has too few cores.
    """
    ray = _import_ray()
    is_ours = not ray.is_initialized()
    if is_ours:
        _connect(ray, address)
    try:
        _run_cells(ray, scheduler, cores)
    finally:
        if is_ours:
            ray.shutdown()


def check_ray() -> None:
    """Raise AnoframeError if Ray is not installed."""
    _import_ray()


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise AnoframeError('--workers ray needs Ray, which is not installed: pip install "anoframe[ray]"') from error


def _connect(ray: Any, address: str | None) -> None:
    """Connect to a cluster, or start a local one."""
    root = str(Path(anoframe.__file__).resolve().parents[1])  # a checkout is not on the path of the nodes
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    options = {"log_to_driver": False, "logging_level": "error"}
    for attempts_left in reversed(range(1 if address else _START_ATTEMPTS)):
        try:
            ray.init(address=address or "local", runtime_env={"env_vars": {"PYTHONPATH": paths}}, **options)
            return
        except Exception as error:  # Ray raises many different types here
            ray.shutdown()
            if not attempts_left:
                raise AnoframeError(f"no Ray cluster at {address or 'this machine'}: {error}") from error


def _run_cells(ray: Any, scheduler: Scheduler, cores: int) -> None:
    """Submit cells and collect their ends. Ray's own retries are off: the scheduler counts them."""
    remote = ray.remote(max_retries=0, num_cpus=cores)(_run_in_folder)
    running: dict[Any, AnyCell] = {}
    while scheduler.num_unfinished:
        resources = ray.cluster_resources()
        capacity = int(resources.get("CPU", 0) // cores)
        if not capacity and not running:
            available = f"{resources.get('CPU', 0):g}"
            raise AnoframeError(f"the Ray cluster has {available} cores, a cell needs {cores}: lower --cores")
        while len(running) < capacity and (cell := scheduler.next_cell()) is not None:
            gpus = 1 if resources.get("GPU", 0) >= 1 and cell.cfg.device != "cpu" else 0
            running[remote.options(num_gpus=gpus).remote(cell, os.getcwd())] = cell
        ready, _ = ray.wait(list(running), num_returns=1)
        for reference in ready:
            cell = running.pop(reference)
            try:
                failed = ray.get(reference)
            except ray.exceptions.RayError as error:
                scheduler.record_crash(cell, str(error).strip().splitlines()[0])
            else:
                scheduler.finish(cell, failed)


def _run_in_folder(cell: AnyCell, folder: str) -> dict[str, str]:
    """Run a cell on a node, in the folder that relative paths of its config refer to."""
    try:
        os.chdir(folder)
    except OSError as error:
        reason = f"a node has no folder {folder} ({error.strerror}): start the grid in a folder that all nodes share"
        return {"+".join(cell.categories): reason}
    return cell.run()
