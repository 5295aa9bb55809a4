"""Cells on a Ray cluster, or on one that lives on this machine for as long as the grid. Needs the extra `ray`."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import anoframe
from anoframe.errors import AnoframeError
from anoframe.grid.cells import Cell, run_cell
from anoframe.grid.scheduler import Board

_STARTS = 3  # Ray gives a cluster 30 seconds to start, which a busy machine may need to load its files


def run_on_ray(board: Board, address: str | None = None, cores: int = 1) -> None:
    """Run what waits on the board, as many cells at a time as the cluster has cores for.

    A cell that may use a GPU takes one, where the cluster has any. The nodes need anoframe, the data at the same path,
    and the output folder in common.

    Args:
        address: of a cluster; None starts one on this machine.
        cores: that a cell takes.

    Raises:
        AnoframeError: Ray is not installed, there is no cluster at that address, or it has too few cores.
    """
    ray = _import_ray()
    started = not ray.is_initialized()
    if started:
        _connect(ray, address)
    try:
        _run(ray, board, cores)
    finally:
        if started:
            ray.shutdown()


def check_ray() -> None:
    """Raise AnoframeError where Ray is not installed."""
    _import_ray()


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise AnoframeError('--workers ray needs a package that is not there: pip install "anoframe[ray]"') from error


def _connect(ray: Any, address: str | None) -> None:
    root = str(Path(anoframe.__file__).resolve().parents[1])  # a checkout is on nobody's path
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    quiet = {"log_to_driver": False, "logging_level": "error"}
    for left in reversed(range(1 if address else _STARTS)):
        try:
            ray.init(address=address or "local", runtime_env={"env_vars": {"PYTHONPATH": paths}}, **quiet)
            return
        except Exception as error:  # of many kinds
            ray.shutdown()
            if not left:
                raise AnoframeError(f"no Ray cluster at {address or 'this machine'}: {error}") from error


def _run(ray: Any, board: Board, cores: int) -> None:
    """Retries are the board's, so that a cell is tried as often as in local processes."""
    remote = ray.remote(max_retries=0, num_cpus=cores)(_remote_cell)
    running: dict[Any, Cell] = {}
    while board.unfinished:
        resources = ray.cluster_resources()
        slots = int(resources.get("CPU", 0) // cores)
        if not slots and not running:
            raise AnoframeError(f"the Ray cluster has {resources.get('CPU', 0):g} cores, and a cell takes {cores}")
        while len(running) < slots and (cell := board.take()) is not None:
            gpus = 1 if resources.get("GPU", 0) >= 1 and cell.cfg.device != "cpu" else 0
            running[remote.options(num_gpus=gpus).remote(cell, os.getcwd())] = cell
        ready, _ = ray.wait(list(running), num_returns=1)
        for one in ready:
            cell = running.pop(one)
            try:
                failed = ray.get(one)
            except ray.exceptions.RayError as error:
                board.died(cell, str(error).strip().splitlines()[0])
            else:
                board.ended(cell, failed)


def _remote_cell(cell: Cell, folder: str) -> dict[str, str]:
    """On a node: in the folder that relative paths of the config start from."""
    try:
        os.chdir(folder)
    except OSError as error:
        reason = f"a node has no folder {folder} ({error.strerror}): start where every node sees the same files"
        return {"+".join(cell.categories): reason}
    return run_cell(cell)
