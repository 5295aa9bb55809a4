"""The command line from end to end on tiny data: results, output and error messages that scripts rely on."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from anoframe.cli_options import MODES_OF_OPTIONS, _parser
from anoframe.commands import COMMANDS
from anoframe.config import flatten, load_config
from anoframe.config.discovery import list_configs
from anoframe.registry import DATASETS, MODELS

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def train(cli, tiny_config, tmp_path):
    """Calls the command line on the tiny config with a new output folder."""

    def call(*words: object, output: Path = tmp_path / "runs"):
        return cli("--config", tiny_config, "--output", output, *words)

    return call


def assert_refused(done, *phrases):
    """Assert status 2, one message on standard error that contains the phrases, and no traceback."""
    assert done.status == 2
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
    assert [phrase for phrase in phrases if phrase not in done.err] == []


def results_in(folder: Path) -> list[Path]:
    """Return the files of results and checkpoints below a folder."""
    return sorted(folder.rglob("metrics.json")) + sorted(folder.rglob("learned.safetensors"))


# ------------------------------------------------------------------------------------------------ runs


def test_training_with_every_fixed_option(cli, tiny_config, tiny_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = cli(
        *("--config", tiny_config, "--cls_names", "felt", "mesh", "--mode", "train", "--seed", "3", "--device", "cpu"),
        *("--output", "here", "--data.name", "folder", "--data.root", tiny_root, "--protocol", "separate"),
        *("--model.backbone.name", "tf_efficientnet_lite0", "--model.coreset.ratio", "0.2"),
    )
    assert done.status == 0, done.err
    cfg = dict(flatten(load_config(tmp_path / "here/tiny/separate/felt+mesh/3")))
    assert (cfg["seed"], cfg["device"], cfg["model.coreset.ratio"]) == (3, "cpu", 0.2)


def test_the_command_line_gives_the_bytes_of_the_python_interface(train, finished, tmp_path):
    assert train("--cls_names", "felt", "mesh").status == 0
    again = tmp_path / "runs/tiny/separate/felt+mesh/0"
    assert (again / "metrics.json").read_bytes() == (finished.folder / "metrics.json").read_bytes()


def test_the_output_ends_with_metrics_stage_times_and_report(train):
    lines = train("--cls_names", "all").out.splitlines()
    rows = [line.split()[0] for line in lines if line and not line.startswith(" ")]
    stages = ["build", "encode", "coreset", "threshold", "save", "predict", "measure", "draw"]
    note = "the"  # backbone weights are random
    assert rows[-14:] == ["felt", "mesh", "mean", note, "stage", *stages, "report:"]


@pytest.mark.parametrize("below", ["", "checkpoint"])
def test_testing_a_checkpoint_gives_the_metrics_of_its_run(cli, finished, tmp_path, below):
    done = cli("--mode", "test", "--checkpoint", finished.folder / below, "--output", tmp_path)
    assert done.status == 0, done.err
    again = json.loads((tmp_path / "tiny/separate/felt+mesh/0-test/metrics.json").read_text())
    assert again["categories"] == finished.metrics


def test_testing_with_config_and_one_category(train, finished, tmp_path):
    done = train("--cls_names", "mesh", "--mode", "test", "--checkpoint", finished.folder)
    assert done.status == 0, done.err
    again = json.loads((tmp_path / "runs/tiny/separate/mesh/0-test/metrics.json").read_text())
    assert again["categories"] == {"mesh": finished.metrics["mesh"]}


def test_the_unified_protocol_fits_one_detector(train, tmp_path):
    done = train("--cls_names", "felt", "mesh", "--protocol", "unified")
    assert done.status == 0, done.err
    run = tmp_path / "runs/tiny/unified/felt+mesh/0"
    assert [path.name for path in (run / "checkpoint").iterdir()] == ["unified"]
    assert list(json.loads((run / "metrics.json").read_text())["categories"]) == ["felt", "mesh"]


def test_wandb_can_be_turned_off(train):
    assert train("--cls_names", "mesh", "--wandb.enable", "False").status == 0


def test_a_run_folder_is_a_config(cli, finished, tmp_path):
    assert cli("--config", finished.folder, "--cls_names", "mesh", "--output", tmp_path).status == 0
    again = json.loads((tmp_path / "tiny/separate/mesh/0/metrics.json").read_text())
    assert again["categories"]["mesh"] == finished.metrics["mesh"]


def test_overwrite_replaces_earlier_results(train, run_copy, tmp_path):
    target = tmp_path / "runs/tiny/separate/mesh/0"
    target.mkdir(parents=True)
    (target / "metrics.json").write_text("{}")
    assert train("--cls_names", "mesh", "--overwrite").status == 0
    assert "mesh" in json.loads((target / "metrics.json").read_text())["categories"]


# ------------------------------------------------------------------------------------------------ help and configs


@pytest.mark.parametrize("name", [*list_configs(), *MODELS.names(), *DATASETS.names()])
def test_help_lists_every_name(cli, name):
    assert name in cli("--help").out


OPTIONS = ("config", "cls_names", "mode", "checkpoint", "seed", "device", "output", "protocol")
DOTTED = ("data.name", "data.root", "model.backbone.name", "model.coreset.ratio")


@pytest.mark.parametrize("option", [*OPTIONS, *DOTTED])
def test_help_explains_every_fixed_option(cli, option):
    assert f"--{option} " in cli("--help").out


def test_help_succeeds(cli):
    assert cli("--help").status == 0


def test_the_printed_config_is_the_one_that_would_run(cli, tmp_path):
    done = cli("--config", "patchcore/patchcore_224.py", "--print_config", "--model.coreset.ratio=0.5", "--seed", "7")
    (tmp_path / "printed.yaml").write_text(done.out)
    expected = load_config("patchcore/patchcore_224.py", {"model.coreset.ratio": 0.5, "seed": 7})
    assert list(flatten(load_config(tmp_path / "printed.yaml"))) == list(flatten(expected))


def test_the_printed_config_has_the_categories(cli):
    done = cli("--config", "patchcore/patchcore_224.py", "--print_config", "--cls_names", "bottle", "screw")
    assert "\ncategories:\n- bottle\n- screw\n" in done.out


def test_the_changes_of_a_config_are_shown(cli):
    done = cli("--config", "patchcore/patchcore_320.py", "--diff_config", "--protocol", "unified")
    assert (done.status, done.out.splitlines()[-1]) == (0, "  protocol.name: 'separate' -> 'unified'")


# ------------------------------------------------------------------------------------------------ invalid options


@pytest.mark.parametrize(
    ("words", "phrases"),
    [
        ((), ["--config is needed"]),
        (("--mode", "test"), ["--checkpoint is needed"]),
        (("--print_config",), ["--config is needed"]),
        (("stray",), ["unexpected argument 'stray'"]),
        (("--sede", "1"), ["unknown option --sede", "did you mean '--seed'"]),
        (("--epochs", "1"), ["unknown option --epochs", "Known: --cache", "dotted name"]),
        (("--config", "patchcore/patchcore_242.py"), ["did you mean 'patchcore/patchcore_224.py'"]),
        (("--config", "patchcore/patchcore_224.py", "--data.root"), ["--data.root needs a value"]),
        (("--config", "patchcore/patchcore_224.py", "--data.rooot", "x"), ["did you mean 'data.root'"]),
        (("--config", "patchcore/patchcore_224.py", "--seed", "one"), ["seed takes a whole number, got 'one'"]),
        (("--config", "patchcore/patchcore_224.py", "--data.name", "a", "b"), ["data.name takes text"]),
        (("--config", "patchcore/patchcore_224.py", "--model.coreset", "1"), ["is a section"]),
        (("--mode", "test", "--checkpoint", "no/such/run"), ["there is no checkpoint no/such/run"]),
        (("--config", "patchcore/patchcore_224.py", "--checkpoint", "runs"), ["--checkpoint goes with --mode test"]),
    ],
)
def test_invalid_options_are_refused(cli, words, phrases):
    assert_refused(cli(*words), *phrases)


def test_an_unknown_mode_is_refused(cli):
    assert cli("--mode", "fit").status == 2


# ------------------------------------------------------------------------------------------------ invalid runs


@pytest.mark.parametrize(
    ("words", "phrases"),
    [
        ((), ["no category given: --cls_names"]),
        (("--cls_names", "flet"), ["unknown category 'flet'", "did you mean 'felt'"]),
        (("--cls_names", "Felt"), ["did you mean 'felt'"]),
        (("--cls_names", "ALL"), ["did you mean 'all'"]),
        (("--cls_names", "felt, mesh"), ["spaces between them, --cls_names felt mesh"]),
        (("--cls_names", "felt", "felt"), ["given twice: felt"]),
        (("--cls_names", "all", "felt"), ["'all' stands alone"]),
        (("--cls_names", "felt", "--protocol", "continal"), ["did you mean 'continual'"]),
        (("--cls_names", "felt", "--protocol", "unifed"), ["did you mean 'unified'"]),
        (("--cls_names", "felt", "--device", "0", "1"), ["--device 0 1", "one device"]),
        (("--cls_names", "felt", "--device", "0 1"), ["--device 0 1", "one device"]),
        (("--cls_names", "felt", "--device", "gpu"), ["--device takes auto, cpu, cuda"]),
        (("--cls_names", "felt", "--data.name", "mvtce"), ["did you mean 'mvtec'"]),
        (("--cls_names", "felt", "--data.root", "no/such/folder"), ["no/such/folder does not exist"]),
        (("--cls_names", "felt", "--data.crop", "65"), ["crop 65 is larger than resize 64"]),
        (("--cls_names", "felt", "--data.batch_size", "0"), ["data.batch_size must be 1 or more, got 0"]),
        (("--cls_names", "felt", "--model.name", "patchcoer"), ["did you mean 'patchcore'"]),
        (("--cls_names", "felt", "--model.coreset.ratio", "2"), ["ratio lies in (0, 1], got 2.0"]),
        (("--cls_names", "felt", "--model.backbone.name", "resnet_18"), ["did you mean 'resnet18'"]),
        (("--cls_names", "felt", "--model.backbone.weights", "no.pth"), ["no.pth", "Three ways out"]),
        (("--cls_names", "felt", "--seed", "-1"), ["seed"]),
        (("--cls_names", "felt", "--wandb.log_freq", "0"), ["wandb.log_freq"]),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, tuple) else "",
)
def test_invalid_runs_are_refused(train, tmp_path, words, phrases):
    assert_refused(train(*words), *phrases)
    assert results_in(tmp_path) == []


def test_a_missing_gpu_is_reported(train, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert_refused(train("--cls_names", "felt", "--device", "0"), "finds no GPU on this machine", "--device cpu")


def test_a_config_without_a_model_is_refused(cli, tiny_root, tmp_path):
    done = cli(
        *("--config", "__base__/default.py", "--cls_names", "felt", "--output", tmp_path),
        *("--data.name", "folder", "--data.root", tiny_root),
    )
    assert_refused(done, "model")


def test_a_syntax_error_in_a_config_is_reported_with_its_line(cli, tmp_path):
    (tmp_path / "own.py").write_text("cfg = (\n")
    assert_refused(cli("--config", tmp_path / "own.py", "--print_config"), f"{tmp_path}/own.py:1: ")


def test_existing_results_are_not_overwritten(train, tmp_path):
    target = tmp_path / "runs/tiny/separate/mesh/0"
    target.mkdir(parents=True)
    (target / "metrics.json").write_text("earlier")
    assert_refused(
        train("--cls_names", "mesh"), "has the results of an earlier run", "--resume", "--output", "--overwrite"
    )
    assert (target / "metrics.json").read_text() == "earlier"


@pytest.mark.parametrize("words", [("--model.name", "patchcoer"), ("--data.batch_size", "0")])
def test_a_refused_run_overwrites_nothing(train, tmp_path, words):
    target = tmp_path / "runs/tiny/separate/mesh/0"
    target.mkdir(parents=True)
    (target / "metrics.json").write_text("earlier")
    assert_refused(train("--cls_names", "mesh", "--overwrite", *words))
    assert (target / "metrics.json").exists()


def test_an_output_that_is_a_file_is_refused(train, tmp_path):
    (tmp_path / "taken").write_text("")
    assert_refused(train("--cls_names", "mesh", output=tmp_path / "taken"), "choose another --output")


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may write everywhere")
def test_a_read_only_output_is_refused(train, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert_refused(train("--cls_names", "mesh", output=tmp_path / "locked"), "choose another --output")


def test_broken_data_is_refused_before_any_work(train, tiny_root, tmp_path):
    root = Path(shutil.copytree(tiny_root, tmp_path / "broken"))
    (root / "mesh/test/cut/001.png").write_bytes(b"no image")
    (root / "felt/ground_truth/dent/000_mask.png").unlink()
    done = train("--cls_names", "felt", "mesh", "--data.root", root)
    assert_refused(done, "2 problems", "mesh/test/cut/001.png: not an image", "felt/test/dent/000.png: no mask")
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_ends_without_a_traceback(cli, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("anoframe.config.load_config", interrupt)
    done = cli("--config", "patchcore/patchcore_224.py", "--print_config")
    assert (done.status, done.err) == (130, "interrupted: the same command with --resume continues this run\n")


# ----------------------------------------------------------------------------------------------- options without effect

GIVEN = {  # option -> words that give it
    "config": ("--config", "patchcore/patchcore_224.py"),
    "checkpoint": ("--checkpoint", "runs"),
    "input": ("--input", "parts"),
    "maps": ("--maps", "png"),
    "no_overlays": ("--no_overlays",),
    "format": ("--format", "onnx"),
    "precision": ("--precision", "fp16"),
    "false_positive_rate": ("--false_positive_rate", "0.1"),
    "seed": ("--seed", "1"),
    "device": ("--device", "cpu"),
    "protocol": ("--protocol", "unified"),
    "output": ("--output", "there"),
    "resume": ("--resume",),
    "overwrite": ("--overwrite",),
    "cache": ("--cache", "off"),
    "print_config": ("--print_config",),
    "diff_config": ("--diff_config",),
}
WITHOUT_EFFECT = [
    (mode, option)
    for mode in ("train", "test", "predict", "threshold", "export")
    for option, modes in MODES_OF_OPTIONS.items()
    if mode not in modes
]


def test_every_fixed_option_says_in_which_modes_it_has_an_effect():
    always = {"help", "version", "mode", "cls_names"}
    options = {option[2:] for option in _parser()._option_string_actions if option.startswith("--")}
    assert set(MODES_OF_OPTIONS) | always == options
    assert set(GIVEN) == set(MODES_OF_OPTIONS)


@pytest.mark.parametrize(("mode", "option"), WITHOUT_EFFECT)
def test_an_option_without_effect_is_an_error(cli, mode, option):
    assert_refused(cli("--mode", mode, *GIVEN[option]), f"--{option} goes with --mode")


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("train", "threshold.value"),
        ("train", "threshold.pixel_value"),
        ("test", "protocol.name"),
        ("test", "threshold.held_back"),
        ("test", "threshold.fits"),
        ("test", "trainer.save_minutes"),
        ("predict", "data.root"),
        ("predict", "threshold.held_back"),
        ("threshold", "data.root"),
        ("threshold", "model.sigma"),
    ],
)
def test_a_dotted_option_without_effect_is_an_error(cli, mode, name):
    given = () if mode == "train" else ("--checkpoint", "runs")
    assert_refused(
        cli("--mode", mode, *given, f"--{name}", "1"), f"--{name}", f"--mode {'test' if mode == 'train' else mode}"
    )


def test_cache_clear_with_other_options_is_not_taken_for_a_cleaning(cli, cache_folder):
    (cache_folder / "images").mkdir(exist_ok=True)
    assert_refused(cli("--cache", "clear", "--seed", "1"), "--config is needed")


# ------------------------------------------------------------------------------------------------ commands


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_its_own_help(cli, name):
    done = cli(name, "--help")
    assert done.status == 0
    assert done.out.startswith(f"usage: anoframe {name}")
    assert f"anoframe {name}" in cli("--help").out


def test_a_misspelt_command_is_an_error_with_a_suggestion(cli):
    assert_refused(cli("gird"), "unexpected argument 'gird'", "did you mean 'grid'")


def test_compare_writes_the_page_of_its_tool(cli, finished, tmp_path):
    copy = shutil.copytree(finished.folder, tmp_path / "b")
    done = cli("compare", finished.folder, copy, "--output", tmp_path / "both.html")
    assert done.status in (0, 1), done.err
    assert (tmp_path / "both.html").is_file()


def test_check_reports_a_dataset(cli, tiny_root, tmp_path):
    done = cli("check", "--data.name", "folder", "--data.root", tiny_root, "--picture", tmp_path / "x.png")
    assert (done.status, "0 problems" in done.out) == (0, True)


def test_grid_refuses_wrong_options_as_its_tool_does(cli):
    assert_refused(cli("grid", "--configs", "a.py", "--workers", "many"), "--workers must be 0")
