"""The cells of a grid: which runs it consists of, and all that can be wrong with them before the first one starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anoframe.config import ConfigDict, check_config, load_config
from anoframe.config.validation import check_ranges
from anoframe.errors import AnoframeError
from anoframe.report.compare import read_finished, sort_into_tables
from anoframe.report.run_record import RunRecord
from anoframe.runs.api import train
from anoframe.runs.folder import earlier_state, run_folder
from anoframe.runs.protocols import with_categories
from anoframe.runs.session import Plan


@dataclass(frozen=True)
class Cell:
    """One ordinary run, as `tools/main.py` would make it: a config, the categories of one fit, and a seed.

    Attributes:
        cfg: resolved, with seed and categories; all that another process needs.
        output: parent of run folders.
    """

    cfg: ConfigDict
    output: str

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(self.cfg.categories)

    @property
    def folder(self) -> Path:
        return run_folder(self.cfg, self.categories, self.output)

    @property
    def name(self) -> str:
        """For people: config, categories, seed."""
        return f"{self.cfg.config_name} {'+'.join(self.categories)} seed {self.cfg.seed}"

    def is_done(self) -> bool:
        """Whether its run has finished, with everything that the table needs of it."""
        try:
            run = read_finished(self.folder)
        except AnoframeError:
            return False
        found = {one.name for one in run.evaluated if one.images is not None}
        whole = run.run.get("status") == "finished" and (self.folder / "report.html").exists()
        return whole and found >= set(self.categories)


@dataclass(frozen=True)
class GridPlan:
    """Cells in the order of the command, and why they will not all share a table."""

    cells: list[Cell]
    refusals: list[str]


def plan_grid(
    configs: Sequence[str | Path],
    categories: Sequence[str] | None,
    seeds: Sequence[int],
    output: str | Path,
    overrides: Mapping[str, Any] | None = None,
) -> GridPlan:
    """Find the cells and check each: config, values, detector, weights, data, and what its folder holds.

    Raises:
        AnoframeError: whatever can be known to be wrong before the first cell starts.
    """
    _refuse_repeated("config", [str(config) for config in configs])
    _refuse_repeated("seed", seeds)
    loaded = _load(configs, overrides or {})
    _refuse_repeated("config name", [cfg.get("config_name") for cfg in loaded], ": it names the folders of runs")
    cells, stubs = [], []
    for cfg in loaded:
        check_config(cfg)
        chosen = with_categories(cfg, categories)
        plan = Plan(chosen)
        stubs.append(RunRecord(Path(chosen.config_name), {}, "", {}, {}, plan.provenance, [], []))
        for fit in plan.fits:
            for seed in seeds:
                cells.append(_cell(chosen, fit.categories, seed, str(output), plan.provenance))
    return GridPlan(cells, sort_into_tables(stubs)[1])


def run_cell(cell: Cell) -> dict[str, str]:
    """Make the run of a cell, or go on with it where it stopped.

    Returns:
        What failed -> why: categories, or the cell as a whole; empty where nothing did.
    """
    try:
        return train(cell.cfg, cell.categories, cell.output, start="resume").failed
    except Exception as error:  # whatever a method comes up with: other cells go on
        reason = str(error) if isinstance(error, AnoframeError) else f"{type(error).__name__}: {error}"
        return {"+".join(cell.categories): reason}


def _load(configs: Sequence[str | Path], overrides: Mapping[str, Any]) -> list[ConfigDict]:
    """Configs as the grid runs them.

    What is changed in a section that a config has not, as `trainer` of PatchCore, is left out there, so that methods
    of both kinds go into one grid; where no config has it, it is an unknown key.
    """
    bare = [load_config(config) for config in configs]  # what is wrong in a file itself is told with its name already
    sections = {key for cfg in bare for key in cfg if isinstance(cfg[key], ConfigDict)}
    loaded = []
    for config, cfg in zip(configs, bare, strict=True):
        foreign = tuple(f"{section}." for section in sections - set(cfg))
        own = {name: value for name, value in overrides.items() if not name.startswith(foreign)}
        try:
            loaded.append(load_config(config, own))
        except AnoframeError as error:  # with its name, since others may have the key
            raise AnoframeError(f"{config}: {error}") from error
    return loaded


def _cell(cfg: ConfigDict, categories: Sequence[str], seed: int, output: str, provenance: Mapping[str, Any]) -> Cell:
    own = with_categories(cfg, categories)
    own.seed = seed
    check_ranges(own)
    cell = Cell(own, output)
    if (cell.folder / "config.yaml").exists():
        try:
            earlier_state(cell.folder, own, {**provenance, "seed": seed})
        except AnoframeError as error:
            raise AnoframeError(f"{error}. A grid has no --overwrite: choose another --output, or remove it") from error
    return cell


def _refuse_repeated(what: str, given: Sequence[Any], why: str = "") -> None:
    if not given:
        raise AnoframeError(f"no {what} given, a grid takes one or more")
    repeated = [one for one in given if list(given).count(one) > 1]
    if repeated:
        raise AnoframeError(f"{what} {repeated[0]!r} is given twice{why}; give it once")
