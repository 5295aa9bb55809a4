"""Paths as users write them: `~`, environment variables, and where they are expanded."""

from __future__ import annotations

import doctest
import runpy
import shutil
from pathlib import Path

import pytest

import anoframe
from anoframe.backbones.weights import load_state
from anoframe.config import check_config, load_config
from anoframe.config.discovery import find_config, find_run_config
from anoframe.data.dataset import open_dataset
from anoframe.errors import AnoframeError
from anoframe.grid.runner import run_grid
from anoframe.utils import paths
from anoframe.utils.paths import expand_path
from anoframe.utils.tensor_cache import cache_root

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """A home folder, `$DATA` in it, no `$NOPE`, and a working folder of its own."""
    home = tmp_path / "home"
    (home / "data").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DATA", str(home / "data"))
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("NOPE", raising=False)
    return home


# ------------------------------------------------------------------------------------------------ the function


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("~", "{home}"),
        ("~/runs", "{home}/runs"),
        (Path("~/runs"), "{home}/runs"),
        ("$HOME/runs", "{home}/runs"),
        ("${DATA}/a b/$DATA", "{home}/data/a b/{home}/data"),
        ("runs", "runs"),
        ("/data/~/runs", "/data/~/runs"),
        ("price$5", "price$5"),
        ("a$-b", "a$-b"),
    ],
)
def test_home_and_variables_are_expanded(home, given, expected):
    assert expand_path(given, "output") == Path(expected.format(home=home))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("$NOPE/runs", r"^output \$NOPE/runs: the environment variable NOPE is not set, or empty: set it, or write"),
        ("${NOPE}", r"^output \$\{NOPE\}: the environment variable NOPE is not set"),
        ("$EMPTY/runs", r"the environment variable EMPTY is not set, or empty"),
        ("$DATA/${NOPE}", r"the environment variable NOPE is not set"),
        ("~no_such_user/runs", r"^output ~no_such_user/runs: there is no home folder of a user 'no_such_user'"),
    ],
)
def test_what_cannot_be_expanded_is_an_error_that_names_it(given, message):
    with pytest.raises(AnoframeError, match=message):
        expand_path(given, "output")


@pytest.mark.parametrize("name", ["$NOPE.BIN", "~no_such_user"])
def test_existing_name_with_these_signs_is_taken_as_it_is(name):
    Path(name).mkdir()
    assert expand_path(name, "input") == Path(name)


def test_docstring_example_runs():
    assert doctest.testmod(paths).failed == 0


# ------------------------------------------------------------------------------------------------ where paths enter


def test_config_and_checkpoint_are_found_in_the_home_folder(home, run_copy):
    shutil.copytree(run_copy, home / "run")
    assert find_config("~/run") == home / "run" / "config.yaml"
    assert find_run_config("$HOME/run") == home / "run" / "config.yaml"
    assert anoframe.load_run("~/run").folder == home / "run"


def test_data_root_and_cache_are_found_in_the_home_folder(home, tiny_root):
    shutil.copytree(tiny_root, home / "data", dirs_exist_ok=True)
    assert open_dataset("folder", "$DATA").root == home / "data"
    assert cache_root("~/cache") == home / "cache"


@pytest.mark.parametrize("name", ["data.root", "cache.folder"])
def test_unset_variable_in_a_config_is_an_error_before_any_work(name):
    with pytest.raises(AnoframeError, match=rf"^{name} \$NOPE/x: the environment variable NOPE"):
        check_config(load_config("patchcore/patchcore_224.py", {name: "$NOPE/x"}))


def test_weights_file_is_found_in_the_home_folder(home):
    with pytest.raises(AnoframeError, match=f"there is no weights file {home}/weights.pth"):
        load_state("resnet18", "~/weights.pth")


def test_run_with_these_paths_equals_one_with_whole_paths(cli, home, finished, tiny_config, tiny_root, one_thread):
    shutil.copy(tiny_config, home / "tiny.py")
    shutil.copytree(tiny_root, home / "data", dirs_exist_ok=True)
    options = ("--config", "~/tiny.py", "--cls_names", "felt", "mesh", "--data.root=~/data")
    options = (*options, "--cache", "on", "--cache.folder=$HOME/c")
    assert cli(*options, "--output=~/runs").status == 0
    folder = home / "runs" / finished.folder.relative_to(finished.folder.parents[3])
    assert (folder / "metrics.json").read_bytes() == (finished.folder / "metrics.json").read_bytes()
    assert "root: ~/data\n" in (folder / "config.yaml").read_text()  # as written, so that it holds on other machines
    checkpoint = f"--checkpoint=$HOME/{folder.relative_to(home)}"
    assert cli("--mode", "test", checkpoint, "--output=~/tests", "--cls_names", "felt").status == 0
    predict = ("--mode", "predict", checkpoint, "--cls_names", "felt", "--no_overlays", "--maps", "none")
    assert cli(*predict, "--input=${DATA}/felt/test/good", "--output=~/predictions").status == 0
    assert list(Path.cwd().iterdir()) == []
    assert {"runs", "tests", "predictions", "c"} <= {path.name for path in home.iterdir()}


def test_output_of_a_grid_is_expanded(tiny_config):
    with pytest.raises(AnoframeError, match=r"^output \$NOPE/grid: the environment variable NOPE"):
        run_grid([tiny_config], ["felt"], output="$NOPE/grid")


def test_arguments_of_the_tools_are_expanded(home, run_copy, tiny_root):
    shutil.copytree(run_copy, home / "run")
    shutil.copytree(tiny_root, home / "data", dirs_exist_ok=True)
    (home / "run" / "report.html").unlink()
    assert runpy.run_path(str(TOOLS / "report.py"))["main"](["~/run"]) == 0
    assert (home / "run" / "report.html").is_file()
    check = runpy.run_path(str(TOOLS / "check_data.py"))["main"]
    check(["--data.name", "folder", "--data.root=$DATA", "--picture=~/check.png"])
    assert (home / "check.png").is_file()
    assert check(["--data.name", "folder", "--data.root=$NOPE"]) == 2
