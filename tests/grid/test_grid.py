"""A grid in this process: its runs are ordinary runs, it makes what is missing, and one failure loses one cell."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

import anoframe
from anoframe.errors import AnoframeError
from anoframe.grid.grid import run_grid

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def copy(grid_here, tmp_path):
    return shutil.copytree(grid_here, tmp_path / "runs")


@pytest.fixture
def grid(dying_config):
    def run(output, **options):
        return run_grid([dying_config], ["all"], (0, 1), output, **options)

    return run


@pytest.fixture
def mesh_fails(monkeypatch):
    """Makes runs of one category fail."""
    import anoframe.runs.session as session

    original = session.category_metrics

    def failing(found, *args):
        if found.samples[0].category == "mesh":
            raise AnoframeError("mesh is torn")
        return original(found, *args)

    monkeypatch.setattr(session, "category_metrics", failing)


def test_a_cell_is_the_run_that_a_single_command_makes(grid_here, dying_config, tmp_path):
    run = anoframe.train(anoframe.load_config(dying_config, {"seed": 1}), ["mesh"], tmp_path)
    for name in ("metrics.json", "metrics.csv", "config.yaml", "results/mesh.json"):
        assert (grid_here / "mortal/separate/mesh/1" / name).read_bytes() == (run.folder / name).read_bytes()


def test_the_table_holds_what_the_runs_found(grid_here):
    (table,) = json.loads((grid_here / "grid.json").read_text())["tables"]
    rows = {row["category"]: row["metrics"]["aupro"]["seeds"] for row in table["rows"]}
    for category in ("felt", "mesh"):
        for seed in ("0", "1"):
            metrics = json.loads((grid_here / f"mortal/separate/{category}/{seed}/metrics.json").read_text())
            assert rows[category][seed] == metrics["categories"][category]["aupro"]
    assert rows[None]["0"] == pytest.approx((rows["felt"]["0"] + rows["mesh"]["0"]) / 2)


def test_a_grid_that_is_done_runs_nothing_and_gives_the_same_files(copy, grid, contents, grid_here, monkeypatch):
    monkeypatch.setattr("anoframe.grid.cells.train", None)
    grid(copy)
    assert contents(copy) == contents(grid_here)


@pytest.mark.parametrize("gone", ["mortal/separate/mesh/1", "mortal/separate/felt/0/results"])
def test_what_is_missing_is_made_and_nothing_else(copy, grid, contents, grid_here, monkeypatch, gone):
    import anoframe.grid.cells as cells

    made, original = [], cells.train
    monkeypatch.setattr(cells, "train", lambda *args, **options: made.append(args[1]) or original(*args, **options))
    shutil.rmtree(copy / gone)
    grid(copy)
    assert len(made) == 1
    assert contents(copy) == contents(grid_here)


def test_a_failing_cell_does_not_lose_the_others(grid, tmp_path, mesh_fails):
    summary = grid(tmp_path).summary
    assert [failure.cell for failure in summary.failures] == ["mortal mesh seed 0", "mortal mesh seed 1"]
    assert {failure.reason for failure in summary.failures} == {"mesh is torn"}
    assert [row.label for row in summary.tables[0].rows] == ["felt"]


def test_a_failing_category_of_a_unified_cell_keeps_the_other(grid, tmp_path, mesh_fails):
    summary = grid(tmp_path, overrides={"protocol.name": "unified"}).summary
    assert [failure.cell for failure in summary.failures] == [
        "mortal felt+mesh seed 0, mesh",
        "mortal felt+mesh seed 1, mesh",
    ]
    assert [row.label for row in summary.tables[0].rows] == ["felt"]


def test_what_may_not_share_a_table_gets_files_of_its_own(grid_here, tiny_config, tmp_path):
    other = tmp_path / "small.py"
    other.write_text(tiny_config.read_text() + "cfg.data.crop = 32\n")
    summary = run_grid([tiny_config, other], ["felt"], (0,), tmp_path / "runs").summary
    assert [list(table.configs) for table in summary.tables] == [["tiny"], ["small"]]
    assert "data.crop: 64 and 32" in summary.refusals[0]
    for name, config in (("grid.csv", "tiny"), ("grid_2.csv", "small")):
        with (tmp_path / "runs" / name).open() as file:
            assert {row["config"] for row in csv.DictReader(file)} == {config}


# ------------------------------------------------------------------------------------------------ the door


@pytest.fixture
def door(capsys):
    from anoframe.grid.cli import main

    def call(*words):
        capsys.readouterr()
        return main([str(word) for word in words]), *capsys.readouterr()

    return call


def test_the_command_shows_the_table(door, copy, dying_config):
    status, out, _ = door("--configs", dying_config, "--cls_names", "all", "--seeds", 0, 1, "--output", copy)
    assert status == 0
    assert (copy / "grid.md").read_text() in out
    assert f"report: {copy / 'grid.html'}" in out


def test_a_failure_is_told_with_status_1(door, tmp_path, dying_config, mesh_fails):
    status, _, err = door("--configs", dying_config, "--cls_names", "all", "--output", tmp_path)
    assert status == 1
    assert "failed: mortal mesh seed 0: mesh is torn" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--workers", "two"], "--workers takes 0, a number of processes, or ray"),
        (["--ray", "head:6379"], "--ray goes with --workers ray"),
        (["--cores", "2"], "--cores goes with --workers ray"),
        (["--seed", "1"], "did you mean 'seeds'"),
        (["--cls_names", "fetl"], "did you mean 'felt'"),
    ],
)
def test_what_is_wrong_is_told_with_status_2(door, tmp_path, dying_config, words, told):
    status, _, err = door("--configs", dying_config, "--cls_names", "felt", "--output", tmp_path, *words)
    assert status == 2
    assert told in err
