"""Tables of a grid as a separate W&B run."""

from __future__ import annotations

import csv

import pytest
from wandb_files import offline_runs

from anoframe.grid.runner import run_grid


@pytest.mark.slow
@pytest.mark.usefixtures("offline", "one_thread")
def test_grid_is_a_run_with_its_table(tiny_config, tmp_path):
    overrides = {"wandb.enable": True, "wandb.log_model": False, "report.pictures": 1}
    run_grid([tiny_config], ["felt"], (0,), tmp_path, overrides)
    (run,) = offline_runs(tmp_path / "grid")
    assert (run.run.display_name, run.exit_code) == ("grid: tiny", 0)
    table, _ = run.table("grid/table_1")
    with (tmp_path / "grid.csv").open() as file:
        columns, row = csv.reader(file)
    assert table["columns"] == columns
    assert ["" if value is None else str(value) for value in table["data"][0]] == row


@pytest.mark.usefixtures("no_account", "one_thread")
def test_grid_without_wandb_writes_no_wandb_folder(tiny_config, tmp_path):
    run_grid([tiny_config], ["felt"], (0,), tmp_path)
    assert not (tmp_path / "grid").exists()
