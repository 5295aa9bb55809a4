"""A grid from its plan to its files."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from anoframe.errors import AnoframeError
from anoframe.grid.cells import Cell, plan_grid, run_cell
from anoframe.grid.process_pool import run_in_processes
from anoframe.grid.ray_backend import check_ray, run_on_ray
from anoframe.grid.scheduler import Board
from anoframe.report.compare import read_finished
from anoframe.report.grid_page import grid_page
from anoframe.report.grid_table import Failure, GridSummary, as_json, csv_rows, csv_text, markdown, summarise
from anoframe.report.run_record import RunRecord
from anoframe.tracking.tracker import Console, Trackers
from anoframe.utils.files import write_atomic, write_json

FOLDER = "grid"  # in the output folder: what processes print, and files of W&B


@dataclass(frozen=True)
class Grid:
    """A grid that has run.

    Attributes:
        summary: its tables, what failed, and what may not share a table.
        page: `grid.html`; `grid.md`, `grid.csv` and `grid.json` lie beside it.
    """

    summary: GridSummary
    page: Path


def run_grid(
    configs: Sequence[str | Path],
    categories: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    output: str | Path = "runs",
    overrides: Mapping[str, Any] | None = None,
    workers: int | Literal["ray"] = 0,
    address: str | None = None,
    cores: int = 1,
) -> Grid:
    """Make the runs of every config, category and seed that are not there yet, and one table of all.

    Args:
        configs: as for `load_config`.
        categories: names, or `["all"]`; by default those in each config.
        output: parent of run folders; the table is written into it.
        overrides: dotted name -> value, for every config that has the section.
        workers: 0 runs one cell after another in this process, a number in so many processes, `"ray"` on a cluster.
        address: of the Ray cluster; None starts one on this machine.
        cores: that a cell takes on Ray.

    Raises:
        AnoframeError: whatever can be known to be wrong before the first cell starts, or nothing could be written.
    """
    if workers == "ray":
        check_ray()
    plan = plan_grid(configs, categories, seeds, output, overrides)
    for reason in plan.refusals:
        Console().log("warning", text=reason)
    home = Path(output)
    with Board(plan.cells) as board:
        if workers == "ray":
            run_on_ray(board, address, cores)
        elif workers:
            run_in_processes(board, workers, home / FOLDER)
        else:
            while (cell := board.take()) is not None:
                board.ended(cell, run_cell(cell))
    runs, unread = _read(plan.cells, {failure.cell for failure in board.failures})
    order = [cell.name for cell in plan.cells]
    failures = sorted([*board.failures, *unread], key=lambda one: _place(one, order))
    grid = Grid(summarise(runs, seeds, failures), home / "grid.html")
    _write(grid.summary, home)
    _track(plan.cells, grid.summary, home)
    return grid


def _place(failure: Failure, order: Sequence[str]) -> int:
    """Of its cell in the command: the same whichever cell ended first."""
    return max((i for i, name in enumerate(order) if failure.cell.startswith(name)), key=lambda i: len(order[i]))


def _read(cells: Sequence[Cell], failed: set[str]) -> tuple[list[RunRecord], list[Failure]]:
    runs, unread = [], []
    for cell in cells:
        try:
            runs.append(read_finished(cell.folder))
        except AnoframeError as error:
            if not any(name.startswith(cell.name) for name in failed):
                unread.append(Failure(cell.name, str(error)))
    return runs, unread


def _write(summary: GridSummary, home: Path) -> None:
    """A table a file of CSV: what may not share a table does not share a column."""
    home.mkdir(parents=True, exist_ok=True)
    for old in home.glob("grid_[0-9]*.csv"):
        old.unlink()
    for i, table in enumerate(summary.tables):
        write_atomic(home / (f"grid_{i + 1}.csv" if i else "grid.csv"), csv_text(table))
    write_atomic(home / "grid.md", markdown(summary))
    write_json(home / "grid.json", as_json(summary, home))
    write_atomic(home / "grid.html", grid_page(summary, home))


# ------------------------------------------------------------------------------------------------ Weights & Biases


class _Warnings(Console):
    """Tells what goes wrong and where things are to be found; a grid is no run."""

    def log(self, event: str, **fields: Any) -> None:
        if event in ("warning", "tracking"):
            super().log(event, **fields)


def _track(cells: Sequence[Cell], summary: GridSummary, home: Path) -> None:
    """The tables as a W&B run of their own, where a config asks for W&B; what goes wrong there harms no grid."""
    asking = [cell.cfg for cell in cells if cell.cfg.wandb.enable]
    if not asking or not summary.tables:
        return
    from anoframe.tracking.wandb import WandB

    names = list(dict.fromkeys(str(cell.cfg.config_name) for cell in cells))
    section = asking[0].wandb.copy_and_resolve_references()
    section.name = section.name or f"grid: {', '.join(names)}"
    folder, told = home / FOLDER, _Warnings()
    folder.mkdir(parents=True, exist_ok=True)
    trackers = Trackers(told, optional=[WandB(section, folder, told.log)])
    trackers.log("run", id=secrets.token_hex(4), config={"configs": names, "seeds": list(summary.seeds)})
    tables = {f"table_{i + 1}": csv_rows(table) for i, table in enumerate(summary.tables)}
    trackers.log("grid", tables=tables, failed={one.cell: one.reason for one in summary.failures})
    trackers.close("failed" if summary.failures else "finished")
