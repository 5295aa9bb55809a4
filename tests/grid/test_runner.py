"""Grids in this process: their runs are ordinary runs, finished cells are skipped, and a failure affects one cell."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

import anoframe
from anoframe.errors import AnoframeError
from anoframe.grid.runner import run_grid

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture
def grid_copy(finished_grid, tmp_path):
    """A copy of the finished grid that a test may damage."""
    return shutil.copytree(finished_grid, tmp_path / "runs")


@pytest.fixture
def run_crash_grid(crash_config):
    """Run the grid of `finished_grid` into another folder: `run_crash_grid(output, **options)`."""

    def run(output, **options):
        return run_grid([crash_config], ["all"], (0, 1), output, **options)

    return run


@pytest.fixture
def mesh_fails(monkeypatch):
    """Make the evaluation of one category fail."""
    from anoframe.evaluation import anomaly

    original = anomaly.category_metrics

    def fail_on_mesh(predictions, *args):
        if predictions.samples[0].category == "mesh":
            raise AnoframeError("mesh is damaged")
        return original(predictions, *args)

    monkeypatch.setattr(anomaly, "category_metrics", fail_on_mesh)


def test_cell_equals_a_run_of_the_api(finished_grid, crash_config, tmp_path):
    run = anoframe.train(anoframe.load_config(crash_config, {"seed": 1}), ["mesh"], tmp_path)
    for name in ("metrics.json", "metrics.csv", "config.yaml", "results/mesh.json"):
        assert (finished_grid / "crash/separate/mesh/1" / name).read_bytes() == (run.folder / name).read_bytes()


def test_table_holds_the_metrics_of_the_runs(finished_grid):
    (table,) = json.loads((finished_grid / "grid.json").read_text())["tables"]
    rows = {row["category"]: row["metrics"]["aupro"]["seeds"] for row in table["rows"]}
    for category in ("felt", "mesh"):
        for seed in ("0", "1"):
            metrics = json.loads((finished_grid / f"crash/separate/{category}/{seed}/metrics.json").read_text())
            assert rows[category][seed] == metrics["categories"][category]["aupro"]
    assert rows[None]["0"] == pytest.approx((rows["felt"]["0"] + rows["mesh"]["0"]) / 2)


def test_finished_grid_runs_nothing_and_writes_the_same_files(
    grid_copy, run_crash_grid, contents, finished_grid, monkeypatch
):
    monkeypatch.setattr("anoframe.grid.cells.train", None)
    run_crash_grid(grid_copy)
    assert contents(grid_copy) == contents(finished_grid)


@pytest.mark.parametrize("removed", ["crash/separate/mesh/1", "crash/separate/felt/0/results"])
def test_only_missing_cells_run(grid_copy, run_crash_grid, contents, finished_grid, monkeypatch, removed):
    import anoframe.grid.cells as cells

    trained, original = [], cells.train
    monkeypatch.setattr(cells, "train", lambda *args, **options: trained.append(args[1]) or original(*args, **options))
    shutil.rmtree(grid_copy / removed)
    run_crash_grid(grid_copy)
    assert len(trained) == 1
    assert contents(grid_copy) == contents(finished_grid)


def test_failed_cell_does_not_affect_the_others(run_crash_grid, tmp_path, mesh_fails):
    summary = run_crash_grid(tmp_path).summary
    assert [failure.cell for failure in summary.failures] == ["crash mesh seed 0", "crash mesh seed 1"]
    assert {failure.reason for failure in summary.failures} == {"mesh is damaged"}
    assert [row.label for row in summary.tables[0].rows] == ["felt"]


def test_failed_category_of_a_unified_cell_does_not_affect_the_other(run_crash_grid, tmp_path, mesh_fails):
    summary = run_crash_grid(tmp_path, overrides={"protocol.name": "unified"}).summary
    assert [failure.cell for failure in summary.failures] == [
        "crash felt+mesh seed 0, mesh",
        "crash felt+mesh seed 1, mesh",
    ]
    assert [row.label for row in summary.tables[0].rows] == ["felt"]


def test_incomparable_runs_get_separate_tables_and_files(finished_grid, tiny_config, tmp_path):
    other = tmp_path / "small.py"
    other.write_text(tiny_config.read_text() + "cfg.data.crop = 32\n")
    summary = run_grid([tiny_config, other], ["felt"], (0,), tmp_path / "runs").summary
    assert [list(table.configs) for table in summary.tables] == [["tiny"], ["small"]]
    assert "data.crop: 64 and 32" in summary.refusals[0]
    for name, config in (("grid.csv", "tiny"), ("grid_2.csv", "small")):
        with (tmp_path / "runs" / name).open() as file:
            assert {row["config"] for row in csv.DictReader(file)} == {config}


# ------------------------------------------------------------------------------------------------ command line


@pytest.fixture
def command(capsys):
    """Call the command line in this process: status, output, errors."""
    from anoframe.grid.cli import main

    def call(*words):
        capsys.readouterr()
        return main([str(word) for word in words]), *capsys.readouterr()

    return call


def test_command_prints_the_table(command, grid_copy, crash_config):
    words = ["--configs", crash_config, "--cls_names", "all", "--seeds", 0, 1, "--output", grid_copy]
    status, out, _ = command(*words)
    assert status == 0
    assert (grid_copy / "grid.md").read_text() in out
    assert f"report: {grid_copy / 'grid.html'}" in out


def test_failure_is_printed_and_gives_status_1(command, tmp_path, crash_config, mesh_fails):
    status, _, err = command("--configs", crash_config, "--cls_names", "all", "--output", tmp_path)
    assert status == 1
    assert "failed: crash mesh seed 0: mesh is damaged" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "two"], "--workers must be 0, a number of processes, or ray"),
        (["--ray", "head:6379"], "--ray requires --workers ray"),
        (["--cores", "2"], "--cores requires --workers ray"),
        (["--seed", "1"], "did you mean '--seeds'"),
        (["--cls_names", "fetl"], "did you mean 'felt'"),
    ],
)
def test_error_gives_status_2(command, tmp_path, crash_config, words, message):
    status, _, err = command("--configs", crash_config, "--cls_names", "felt", "--output", tmp_path, *words)
    assert status == 2
    assert message in err
