"""Run a grid: plan its cells, run those that are missing, write the tables."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anoframe.errors import AnoframeError
from anoframe.grid.cells import Cell, plan_grid
from anoframe.grid.execution import check_workers, run_cells
from anoframe.grid.workers import Workers
from anoframe.report.compare import read_finished
from anoframe.report.grid_export import csv_rows, csv_text, grid_json, markdown
from anoframe.report.grid_page import grid_page
from anoframe.report.grid_table import Failure, GridSummary, summarise
from anoframe.report.run_record import RunRecord
from anoframe.tracking.tracker import Console, Trackers
from anoframe.utils.files import write_atomic, write_json
from anoframe.utils.paths import expand_path

FOLDER = "grid"  # in the output folder: logs of processes, and files of W&B


@dataclass(frozen=True)
class Grid:
    """A grid after its run.

    Attributes:
        summary: its tables, its failures, and the reasons for more than one table.
        page: path of `grid.html`; `grid.md`, `grid.csv` and `grid.json` lie beside it.
    """

    summary: GridSummary
    page: Path


def run_grid(
    configs: Sequence[str | Path],
    categories: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    output: str | Path = "runs",
    overrides: Mapping[str, Any] | None = None,
    workers: Workers = 0,
    address: str | None = None,
    cores: int = 1,
) -> Grid:
    """Run every combination of config, category and seed that is not finished yet, and write one table of all.

    Args:
        configs: config files, as for `load_config`.
        categories: names, or `["all"]`; None uses the categories of each config.
        seeds: one run per seed.
        output: parent folder of run folders; the table is written into it.
        overrides: dotted name -> value, applied to every config that has the section.
        workers: 0 runs the cells one after another in this process, N in N processes, `"ray"` on a Ray cluster.
        address: of a Ray cluster; None starts one on this machine.
        cores: cores per cell on Ray.

    Raises:
        AnoframeError: Anything that can be detected before the first cell starts, or an output that is not writable.
    """
    check_workers(workers)
    folder = expand_path(output, "output")
    plan = plan_grid(configs, categories, seeds, folder, overrides)
    for reason in plan.refusals:
        Console().log("warning", text=reason)
    failed = run_cells(plan.cells, workers, folder / FOLDER, address, cores)
    runs, unreadable = _read_runs(plan.cells, {failure.cell for failure in failed})
    names = [cell.name for cell in plan.cells]
    failures = sorted([*failed, *unreadable], key=lambda failure: _position(failure, names))
    grid = Grid(summarise(runs, seeds, failures), folder / "grid.html")
    _write_tables(grid.summary, folder)
    _log_tables(plan.cells, grid.summary, folder)
    return grid


def _position(failure: Failure, names: Sequence[str]) -> int:
    """Index of the failed cell in the plan: the order of failures does not depend on which cell ended first."""
    matches = [i for i, name in enumerate(names) if failure.cell.startswith(name)]
    return max(matches, key=lambda i: len(names[i]))  # "seed 1" is a prefix of "seed 10"


def _read_runs(cells: Sequence[Cell], failed: set[str]) -> tuple[list[RunRecord], list[Failure]]:
    """Read the run folders of all cells; unreadable ones that have not already failed become failures."""
    runs, unreadable = [], []
    for cell in cells:
        try:
            runs.append(read_finished(cell.folder))
        except AnoframeError as error:
            if not any(name.startswith(cell.name) for name in failed):
                unreadable.append(Failure(cell.name, str(error)))
    return runs, unreadable


def _write_tables(summary: GridSummary, folder: Path) -> None:
    """Write the files of a grid, with one CSV file per table."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("grid_[0-9]*.csv"):
        old.unlink()
    for i, table in enumerate(summary.tables):
        write_atomic(folder / (f"grid_{i + 1}.csv" if i else "grid.csv"), csv_text(table))
    write_atomic(folder / "grid.md", markdown(summary))
    write_json(folder / "grid.json", grid_json(summary, folder))
    write_atomic(folder / "grid.html", grid_page(summary, folder))


# ------------------------------------------------------------------------------------------------ Weights & Biases


class _WarningsOnly(Console):
    """Console of the tracker: it prints warnings and the address of the W&B run, no progress of a run."""

    def log(self, event: str, **fields: Any) -> None:
        if event in ("warning", "tracking"):
            super().log(event, **fields)


def _log_tables(cells: Sequence[Cell], summary: GridSummary, folder: Path) -> None:
    """Log the tables as a separate W&B run if a config turns W&B on; a W&B error does not fail the grid."""
    tracked = [cell.cfg for cell in cells if cell.cfg.wandb.enable]
    if not tracked or not summary.tables:
        return
    from anoframe.tracking.wandb import WandB

    names = list(dict.fromkeys(str(cell.cfg.config_name) for cell in cells))
    section = tracked[0].wandb.copy_and_resolve_references()
    section.name = section.name or f"grid: {', '.join(names)}"
    wandb_folder, console = folder / FOLDER, _WarningsOnly()
    wandb_folder.mkdir(parents=True, exist_ok=True)
    trackers = Trackers(console, optional=[WandB(section, wandb_folder, console.log)])
    trackers.log("run", id=secrets.token_hex(4), config={"configs": names, "seeds": list(summary.seeds)})
    tables = {f"table_{i + 1}": csv_rows(table) for i, table in enumerate(summary.tables)}
    failed = {failure.cell: failure.reason for failure in summary.failures}
    trackers.log("grid", tables=tables, failed=failed)
    trackers.close("failed" if summary.failures else "finished")
