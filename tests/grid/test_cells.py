"""Which runs a grid consists of, and what is told before the first one starts."""

from __future__ import annotations

import json
import shutil

import pytest

from anoframe.errors import AnoframeError
from anoframe.grid.cells import plan_grid, run_cell


@pytest.fixture
def other_config(tiny_config, tmp_path):
    """Another config on the same data: `other_config(name, text)`."""

    def write(name, text):
        path = tmp_path / name
        path.write_text(tiny_config.read_text(encoding="utf-8") + text, encoding="utf-8")
        return path

    return write


def names(plan):
    return [cell.name for cell in plan.cells]


def test_a_cell_is_a_config_a_category_and_a_seed(tiny_config, other_config, tmp_path):
    other = other_config("smooth.py", "cfg.model.sigma = 8.0\n")
    plan = plan_grid([tiny_config, other], ["felt", "mesh"], (0, 3), tmp_path)
    expected = [f"{c} {k} seed {s}" for c in ("tiny", "smooth") for k in ("felt", "mesh") for s in (0, 3)]
    assert names(plan) == expected
    assert plan.refusals == []


def test_unified_is_one_cell_for_all_categories(tiny_config, tmp_path):
    plan = plan_grid([tiny_config], ["all"], (0,), tmp_path, {"protocol.name": "unified"})
    assert names(plan) == ["tiny felt+mesh seed 0"]


def test_overrides_reach_every_cell(tiny_config, tmp_path):
    plan = plan_grid([tiny_config], ["all"], (0,), tmp_path, {"model.sigma": "2.5"})
    assert [cell.cfg.model.sigma for cell in plan.cells] == [2.5, 2.5]


def test_planning_writes_nothing(tiny_config, tmp_path):
    plan_grid([tiny_config], ["all"], (0,), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("categories", "seeds", "overrides", "told"),
    [
        (["fetl"], (0,), {}, "did you mean 'felt'"),
        (["felt", "felt"], (0,), {}, "category given twice"),
        (["felt"], (0, 0), {}, "seed 0 is given twice"),
        (["felt"], (-1,), {}, "seed is a whole number"),
        (["felt"], (), {}, "no seed given"),
        (["felt"], (0,), {"model.sigmaa": "1"}, "unknown config key"),
        (["felt"], (0,), {"data.root": "/nowhere"}, "does not exist"),
        (["felt"], (0,), {"model.backbone.name": "resnet"}, "resnet"),
        (None, (0,), {}, "no category given"),
    ],
)
def test_what_is_wrong_is_told_before_the_first_cell(tiny_config, tmp_path, categories, seeds, overrides, told):
    with pytest.raises(AnoframeError, match=told):
        plan_grid([tiny_config], categories, seeds, tmp_path, overrides)


def test_a_section_that_only_some_configs_have_is_changed_in_these(tiny_config, other_config, tmp_path):
    other = other_config("other.py", "with cfg.unlocked():\n    cfg.own = dict(depth=1)\n")
    plan = plan_grid([other, tiny_config], ["felt"], (0,), tmp_path, {"own.depth": "2", "data.batch_size": "3"})
    assert [cell.cfg.get("own", {}).get("depth") for cell in plan.cells] == [2, None]
    assert [cell.cfg.data.batch_size for cell in plan.cells] == [3, 3]


def test_a_section_that_no_config_has_is_told(tiny_config, tmp_path):
    with pytest.raises(AnoframeError, match=r"tiny\.py: unknown config key 'own\.depth'"):
        plan_grid([tiny_config], ["felt"], (0,), tmp_path, {"own.depth": "2"})


def test_a_key_that_one_config_lacks_is_told_with_its_config(tiny_config, other_config, tmp_path):
    other = other_config("other.py", "with cfg.unlocked():\n    cfg.own = 1\n")
    with pytest.raises(AnoframeError, match=r"tiny\.py: unknown config key 'own'"):
        plan_grid([other, tiny_config], ["felt"], (0,), tmp_path, {"own": "2"})


def test_a_broken_file_of_any_category_is_told(tiny_config, tiny_root, tmp_path):
    root = shutil.copytree(tiny_root, tmp_path / "data")
    (root / "mesh/train/good/000.png").write_bytes(b"torn")
    with pytest.raises(AnoframeError, match=r"mesh.*000\.png"):
        plan_grid([tiny_config], ["felt", "mesh"], (0,), tmp_path / "runs", {"data.root": str(root)})


def test_two_configs_of_one_name_are_refused(tiny_config, other_config, tmp_path):
    other = other_config("tiny.py", "")
    with pytest.raises(AnoframeError, match="config name 'tiny' is given twice"):
        plan_grid([tiny_config, other], ["felt"], (0,), tmp_path)


def test_a_config_that_comes_twice_is_refused(tiny_config, tmp_path):
    with pytest.raises(AnoframeError, match=r"config .* is given twice; give it once"):
        plan_grid([tiny_config, tiny_config], ["felt"], (0,), tmp_path)


def test_configs_that_cannot_share_a_table_are_told_with_both_values(tiny_config, other_config, tmp_path):
    plan = plan_grid([tiny_config, other_config("small.py", "cfg.data.crop = 32\n")], ["felt"], (0,), tmp_path)
    assert plan.refusals == ["tiny and small do not share a table, they differ in data.crop: 64 and 32"]


def test_a_folder_of_another_run_is_told(grid_here, dying_config):
    with pytest.raises(AnoframeError, match=r"model\.sigma was 4\.0 and is 1\.0.*A grid has no --overwrite"):
        plan_grid([dying_config], ["felt"], (0,), grid_here, {"model.sigma": "1.0"})


# ------------------------------------------------------------------------------------------------ one cell


@pytest.fixture
def cell(grid_here, dying_config, tmp_path):
    """A cell that is done, to break."""
    shutil.copytree(grid_here, tmp_path / "runs")
    return plan_grid([dying_config], ["felt"], (0,), tmp_path / "runs").cells[0]


def test_a_finished_cell_is_done(cell):
    assert cell.is_done()


@pytest.mark.parametrize("file", ["metrics.json", "results/felt.json", "report.html", "config.yaml"])
def test_a_cell_that_lacks_a_file_is_not_done(cell, file):
    (cell.folder / file).unlink()
    assert not cell.is_done()


def test_a_cell_that_is_running_or_was_killed_is_not_done(cell):
    state = json.loads((cell.folder / "run.json").read_text())
    (cell.folder / "run.json").write_text(json.dumps({**state, "status": "running"}))
    assert not cell.is_done()


def test_a_failing_cell_says_why(cell, monkeypatch):
    def failing(*args, **options):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("anoframe.grid.cells.train", failing)
    assert run_cell(cell) == {"felt": "RuntimeError: out of memory"}
