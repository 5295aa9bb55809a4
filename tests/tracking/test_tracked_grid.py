"""The table of a grid as a W&B run of its own."""

from __future__ import annotations

import csv

import pytest
from wandb_files import offline_runs

from anoframe.grid.grid import run_grid


@pytest.mark.usefixtures("offline", "one_thread")
def test_a_grid_is_a_run_with_its_table(tiny_config, tmp_path):
    overrides = {"wandb.enable": True, "wandb.log_model": False, "report.pictures": 1}
    run_grid([tiny_config], ["felt"], (0,), tmp_path, overrides)
    (kept,) = offline_runs(tmp_path / "grid")
    assert (kept.run.display_name, kept.exit_code) == ("grid: tiny", 0)
    table, _ = kept.table("grid/table_1")
    with (tmp_path / "grid.csv").open() as file:
        columns, row = csv.reader(file)
    assert table["columns"] == columns
    assert ["" if value is None else str(value) for value in table["data"][0]] == row


@pytest.mark.usefixtures("no_account", "one_thread")
def test_a_grid_that_does_not_ask_for_it_leaves_nothing(tiny_config, tmp_path):
    run_grid([tiny_config], ["felt"], (0,), tmp_path)
    assert not (tmp_path / "grid").exists()
