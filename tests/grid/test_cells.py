"""Cells of a grid, and the errors that are raised before the first one starts."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

from anoframe.errors import AnoframeError
from anoframe.grid.cells import plan_grid

pytestmark = pytest.mark.slow


@pytest.fixture
def other_config(tiny_config, tmp_path):
    """Write another config for the same data: `other_config(name, text)`."""

    def write(name, text):
        path = tmp_path / name
        path.write_text(tiny_config.read_text(encoding="utf-8") + text, encoding="utf-8")
        return path

    return write


def names(plan):
    return [cell.name for cell in plan.cells]


def test_one_cell_per_config_category_and_seed(tiny_config, other_config, tmp_path):
    other = other_config("smooth.py", "cfg.model.sigma = 8.0\n")
    plan = plan_grid([tiny_config, other], ["felt", "mesh"], (0, 3), tmp_path)
    expected = [f"{c} {k} seed {s}" for c in ("tiny", "smooth") for k in ("felt", "mesh") for s in (0, 3)]
    assert names(plan) == expected
    assert plan.refusals == []


def test_unified_protocol_has_one_cell_for_all_categories(tiny_config, tmp_path):
    plan = plan_grid([tiny_config], ["all"], (0,), tmp_path, {"protocol.name": "unified"})
    assert names(plan) == ["tiny felt+mesh seed 0"]


def test_overrides_reach_every_cell(tiny_config, tmp_path):
    plan = plan_grid([tiny_config], ["all"], (0,), tmp_path, {"model.sigma": "2.5"})
    assert [cell.cfg.model.sigma for cell in plan.cells] == [2.5, 2.5]


def test_all_cells_have_the_rectangle_of_all_categories(tiny_config, tiny_root, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(tiny_root, root)
    for path in root.rglob("*.png"):
        image = Image.open(path)
        image.resize((image.width, 2 * image.height)).save(path)
    overrides = {"data.keep_aspect": "rectangle", "data.root": str(root)}
    plan = plan_grid([tiny_config], ["all"], (0,), tmp_path / "runs", overrides)
    assert [(cell.cfg.data.crop, cell.cfg.data.keep_aspect) for cell in plan.cells] == [((96, 48), False)] * 2


def test_planning_writes_nothing(tiny_config, tmp_path):
    plan_grid([tiny_config], ["all"], (0,), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("categories", "seeds", "overrides", "message"),
    [
        (["fetl"], (0,), {}, "did you mean 'felt'"),
        (["felt", "felt"], (0,), {}, "category given twice"),
        (["felt"], (0, 0), {}, "seed 0 is given more than once"),
        (["felt"], (-1,), {}, "seed must be a whole number"),
        (["felt"], (), {}, "no seed given"),
        (["felt"], (0,), {"model.sigmaa": "1"}, "unknown config key"),
        (["felt"], (0,), {"data.root": "/nowhere"}, "does not exist"),
        (["felt"], (0,), {"model.backbone.name": "resnet"}, "resnet"),
        (None, (0,), {}, "no category given"),
    ],
)
def test_errors_are_raised_before_the_first_cell(tiny_config, tmp_path, categories, seeds, overrides, message):
    with pytest.raises(AnoframeError, match=message):
        plan_grid([tiny_config], categories, seeds, tmp_path, overrides)


def test_override_applies_to_the_configs_that_have_its_section(tiny_config, other_config, tmp_path):
    other = other_config("other.py", "with cfg.unlocked():\n    cfg.own = dict(depth=1)\n")
    plan = plan_grid([other, tiny_config], ["felt"], (0,), tmp_path, {"own.depth": "2", "data.batch_size": "3"})
    assert [cell.cfg.get("own", {}).get("depth") for cell in plan.cells] == [2, None]
    assert [cell.cfg.data.batch_size for cell in plan.cells] == [3, 3]


def test_override_of_a_section_that_no_config_has_is_an_error(tiny_config, tmp_path):
    with pytest.raises(AnoframeError, match=r"tiny\.py: unknown config key 'own\.depth'"):
        plan_grid([tiny_config], ["felt"], (0,), tmp_path, {"own.depth": "2"})


def test_override_that_one_config_lacks_is_an_error_with_its_name(tiny_config, other_config, tmp_path):
    other = other_config("other.py", "with cfg.unlocked():\n    cfg.own = 1\n")
    with pytest.raises(AnoframeError, match=r"tiny\.py: unknown config key 'own'"):
        plan_grid([other, tiny_config], ["felt"], (0,), tmp_path, {"own": "2"})


def test_damaged_image_of_any_category_is_an_error(tiny_config, tiny_root, tmp_path):
    root = shutil.copytree(tiny_root, tmp_path / "data")
    (root / "mesh/train/good/000.png").write_bytes(b"torn")
    with pytest.raises(AnoframeError, match=r"mesh.*000\.png"):
        plan_grid([tiny_config], ["felt", "mesh"], (0,), tmp_path / "runs", {"data.root": str(root)})


def test_configs_with_equal_names_are_an_error(tiny_config, other_config, tmp_path):
    other = other_config("tiny.py", "")
    with pytest.raises(AnoframeError, match="config name 'tiny' is given more than once"):
        plan_grid([tiny_config, other], ["felt"], (0,), tmp_path)


def test_repeated_config_is_an_error(tiny_config, tmp_path):
    with pytest.raises(AnoframeError, match=r"config .* is given more than once: give it once"):
        plan_grid([tiny_config, tiny_config], ["felt"], (0,), tmp_path)


def test_configs_that_need_separate_tables_are_reported_with_both_values(tiny_config, other_config, tmp_path):
    plan = plan_grid([tiny_config, other_config("small.py", "cfg.data.crop = 32\n")], ["felt"], (0,), tmp_path)
    assert plan.refusals == ["tiny and small do not share a table, they differ in data.crop: 64 and 32"]


def test_run_folder_of_another_config_is_an_error(finished_grid, crash_config):
    with pytest.raises(AnoframeError, match=r"model\.sigma was 4\.0 and is 1\.0.*A grid has no --overwrite"):
        plan_grid([crash_config], ["felt"], (0,), finished_grid, {"model.sigma": "1.0"})


# ------------------------------------------------------------------------------------------------ one cell


@pytest.fixture
def cell(finished_grid, crash_config, tmp_path):
    """A finished cell that a test may damage."""
    shutil.copytree(finished_grid, tmp_path / "runs")
    return plan_grid([crash_config], ["felt"], (0,), tmp_path / "runs").cells[0]


def test_finished_cell_is_done(cell):
    assert cell.is_done()


@pytest.mark.parametrize("file", ["metrics.json", "results/felt.json", "report.html", "config.yaml"])
def test_cell_without_a_file_is_not_done(cell, file):
    (cell.folder / file).unlink()
    assert not cell.is_done()


def test_running_or_killed_cell_is_not_done(cell):
    state = json.loads((cell.folder / "run.json").read_text())
    (cell.folder / "run.json").write_text(json.dumps({**state, "status": "running"}))
    assert not cell.is_done()


def test_failed_cell_returns_the_reason(cell, monkeypatch):
    def fail(*args, **options):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("anoframe.grid.cells.train", fail)
    assert cell.run() == {"felt": "RuntimeError: out of memory"}
