"""Cells of a grid: the runs that it consists of, all checked before the first one starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anoframe.config import ConfigDict, check_config, load_config
from anoframe.config.validation import check_ranges
from anoframe.data.splits import FEW_SHOT
from anoframe.errors import AnoframeError
from anoframe.report.compare import group_comparable, read_finished
from anoframe.report.run_record import RunRecord
from anoframe.runs.api import train
from anoframe.runs.folder import earlier_state, run_folder
from anoframe.runs.plan import Plan
from anoframe.runs.protocols import choose_shape, config_for_run


@dataclass(frozen=True)
class Cell:
    """One run of a grid, the same as one started with `tools/main.py`: a config, the categories of one fit, a seed.

    Attributes:
        cfg: resolved config with seed and categories; another process needs nothing else.
        output: parent folder of run folders.
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
        """Config, categories and seed as one line for the console."""
        return f"{self.cfg.config_name} {'+'.join(self.categories)} seed {self.cfg.seed}"

    def is_done(self) -> bool:
        """Whether the run has finished and its folder holds everything that the table needs."""
        try:
            run = read_finished(self.folder)
        except AnoframeError:
            return False
        with_scores = {category.name for category in run.evaluated if category.images is not None}
        is_complete = run.run.get("status") == "finished" and (self.folder / "report.html").exists()
        return is_complete and with_scores >= set(self.categories)

    def run(self) -> dict[str, str]:
        """Train and evaluate, or resume an interrupted run.

        Returns:
            Failed category (or all categories, joined by `+`) -> reason; empty if nothing failed.
        """
        try:
            return train(self.cfg, self.categories, self.output, start="resume").failed
        except Exception as error:  # an error of any method must not stop the other cells
            reason = str(error) if isinstance(error, AnoframeError) else f"{type(error).__name__}: {error}"
            return {"+".join(self.categories): reason}


@dataclass(frozen=True)
class GridPlan:
    """The cells of a grid.

    Attributes:
        cells: in the order of the command line.
        refusals: why the configs will not share one table; empty if they will.
    """

    cells: list[Cell]
    refusals: list[str]


def plan_grid(
    configs: Sequence[str | Path],
    categories: Sequence[str] | None,
    seeds: Sequence[int],
    output: str | Path,
    overrides: Mapping[str, Any] | None = None,
) -> GridPlan:
    """List the cells and check each of them: config, values, detector, weights, data, and existing run folder.

    Raises:
        AnoframeError: Anything that can be detected before the first cell starts.
    """
    _check_unique("config", [str(config) for config in configs])
    _check_unique("seed", seeds)
    loaded = _load_configs(configs, overrides or {})
    names = [cfg.get("config_name") for cfg in loaded]
    _check_unique("config name", names, " (run folders are named after it)")
    cells, records = [], []
    for cfg in loaded:
        own_cells, plan = plan_config(cfg, categories, seeds, output)
        cells += own_cells
        records.append(RunRecord(Path(cfg.config_name), {}, "", {}, {}, plan.provenance, [], []))
    return GridPlan(cells, group_comparable(records)[1])


def plan_config(
    cfg: ConfigDict, categories: Sequence[str] | None, seeds: Sequence[int], output: str | Path
) -> tuple[list[Cell], Plan]:
    """List and check the cells of one config, fit by fit; the plan is that of all its categories.

    Raises:
        AnoframeError: as `plan_grid`.
    """
    check_config(cfg)
    cfg = config_for_run(cfg, categories)
    choose_shape(cfg)  # one for all categories, so that they share a table
    plan = Plan(cfg)
    return [_make_cell(cfg, fit.categories, seed, str(output), plan) for fit in plan.fits for seed in seeds], plan


def _load_configs(configs: Sequence[str | Path], overrides: Mapping[str, Any]) -> list[ConfigDict]:
    """Load each config with the overrides that apply to it.

    An override in a section that a config does not have (`trainer` of PatchCore) is skipped for that config, so that
    trained and training-free methods can share a grid. If no config has the section, the key is unknown: an error.
    """
    originals = [load_config(config) for config in configs]  # errors in a file already name the file
    sections = {key for cfg in originals for key in cfg if isinstance(cfg[key], ConfigDict)}
    loaded = []
    for config, cfg in zip(configs, originals, strict=True):
        missing_sections = tuple(f"{section}." for section in sections - set(cfg))
        applied = {name: value for name, value in overrides.items() if not name.startswith(missing_sections)}
        try:
            loaded.append(load_config(config, applied))
        except AnoframeError as error:  # name the config: others may have the key
            raise AnoframeError(f"{config}: {error}") from error
    return loaded


def _make_cell(cfg: ConfigDict, categories: Sequence[str], seed: int, output: str, plan: Plan) -> Cell:
    """Build a cell and check that an existing run folder belongs to it."""
    cfg = config_for_run(cfg, categories)
    cfg.seed = seed
    check_ranges(cfg)
    cell = Cell(cfg, output)
    if (cell.folder / "config.yaml").exists():
        if plan.dataset.split.name == FEW_SHOT and seed != plan.cfg.seed:
            plan = Plan(cfg)  # each seed draws its own training images
        try:
            earlier_state(cell.folder, cfg, {**plan.provenance, "seed": seed}, plan.files)
        except AnoframeError as error:
            raise AnoframeError(
                f"{error}. A grid has no --overwrite: choose another --output, or remove that folder"
            ) from error
    return cell


def _check_unique(name: str, values: Sequence[Any], explanation: str = "") -> None:
    if not values:
        raise AnoframeError(f"no {name} given: a grid needs one or more")
    repeated = [value for value in values if list(values).count(value) > 1]
    if repeated:
        raise AnoframeError(f"{name} {repeated[0]!r} is given more than once{explanation}: give it once")
