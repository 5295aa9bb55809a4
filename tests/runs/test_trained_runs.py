"""Runs of a detector with gradient training: what they write, and that a kill changes nothing of it."""

from __future__ import annotations

import json
import os
import shutil
import time

import children
import pytest
from tiny_data import TINY_DATA

import anoframe
from anoframe.config import load_config
from anoframe.errors import AnoframeError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

CONFIG = (
    '''"""A small RD4AD on a network with random weights, for tests."""

from anoframe.config import inherit

cfg = inherit("rd4ad/rd4ad_lite0_256.py")
'''
    + TINY_DATA
    + """cfg.model.backbone.name = "test_resnet"
cfg.model.backbone.weights = "random"
cfg.model.width = 0.1
cfg.model.depths = (1, 1, 1)
cfg.trainer.epochs = 3
cfg.trainer.batch_size = 2
cfg.trainer.save_minutes = 0.0
cfg.report.pictures = 2
"""
)
STEPS = 9  # of a run: three epochs of six images in batches of two
FILES = ("metrics.json", "metrics.csv", "config.yaml", "checkpoint/felt/learned.safetensors")
ON_TEST = {"trainer.evaluate_every": 1, "trainer.select": "best_on_test"}


@pytest.fixture(scope="module")
def config(tmp_path_factory, tiny_root):
    path = tmp_path_factory.mktemp("configs") / "tiny_rd.py"
    path.write_text(CONFIG.format(root=str(tiny_root)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    """An uninterrupted run. Read only."""
    return _train(config, tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def selected(config, tmp_path_factory):
    """A run that evaluates in training and reports the epoch that is best on the test set. Read only."""
    return _train(config, tmp_path_factory.mktemp("selected"), **ON_TEST, **{"trainer.epochs": 2})


def _train(config, output, start="new", **overrides):
    import torch

    torch.set_num_threads(1)
    return anoframe.train(load_config(config, overrides), ["felt"], output, start)


def test_a_trained_run_keeps_its_curves_and_removes_its_training_states(trained):
    curves = json.loads((trained.folder / "training/felt.json").read_text())
    assert [epoch["epoch"] for epoch in curves["phases"][0]["epochs"]] == [1, 2, 3]
    assert not (trained.folder / "training/felt").exists()


def test_results_have_the_training_settings(trained):
    assert trained.results.provenance["trainer"]["epochs"] == 3
    assert "selected" not in trained.results.provenance
    assert "select_metric" not in trained.results.provenance["trainer"]


def test_a_selection_on_the_test_set_is_marked(selected):
    assert selected.results.provenance["selected"] == "best on test"
    assert selected.results.provenance["trainer"]["select_metric"] == "summary"
    assert len(json.loads((selected.folder / "training/felt.json").read_text())["looks"]) == 2


def test_a_checkpoint_knows_its_training_whatever_config_it_is_tested_with(selected, config, tmp_path):
    alone = shutil.copytree(selected.folder / "checkpoint", tmp_path / "alone")
    tested = anoframe.test(alone, load_config(config), output=tmp_path / "tested")
    provenance = tested.results.provenance
    assert (provenance["trainer"]["epochs"], provenance["selected"]) == (2, "best on test")


def test_evaluation_in_training_changes_no_file_of_the_result(trained, config, tmp_path):
    run = _train(config, tmp_path, **{"trainer.evaluate_every": 1})
    file = "checkpoint/felt/learned.safetensors"
    assert (run.folder / file).read_bytes() == (trained.folder / file).read_bytes()
    assert run.metrics == trained.metrics
    assert len(json.loads((run.folder / "training/felt.json").read_text())["looks"]) == 3


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("trainer.epochs", 5, "was trained with trainer.epochs 3, got 5"),
        ("trainer.evaluate_every", 1, "was trained with trainer.evaluate_every 0, got 1"),
    ],
)
def test_a_test_with_other_training_settings_is_refused(trained, tmp_path, key, value, message):
    with pytest.raises(AnoframeError, match=message):
        anoframe.test(trained.folder, load_config(trained.folder, {key: value}), output=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_test_may_change_keys_that_change_no_result(trained, tmp_path):
    cfg = load_config(trained.folder, {"trainer.save_minutes": 1.0})
    assert anoframe.test(trained.folder, cfg, output=tmp_path).metrics == trained.metrics


def test_testing_a_checkpoint_gives_the_metrics_of_the_run(trained, tmp_path):
    tested = anoframe.test(trained.folder, output=tmp_path)
    assert tested.metrics == trained.metrics
    assert tested.results.provenance["trainer"] == trained.results.provenance["trainer"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("trainer.schedule.name", "cosin", "did you mean 'cosine'"),
        ("trainer.optimizer.name", "addam", "did you mean 'adam'"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(config, tmp_path, name, value, message):
    with pytest.raises(AnoframeError, match=message):
        _train(config, tmp_path, **{name: value})
    assert not list(tmp_path.iterdir())


def test_the_interval_of_training_states_changes_no_file_and_may_change_on_resume(trained, config, tmp_path):
    run = _train(config, tmp_path, **{"trainer.save_minutes": 5.0})
    (run.folder / "metrics.json").unlink()
    again = _train(config, tmp_path, "resume", **{"trainer.save_minutes": 7.0})
    assert (again.folder / "metrics.json").read_bytes() == (trained.folder / "metrics.json").read_bytes()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_killed_run_resumes_to_the_same_files(trained, config, tmp_path, share):
    """SIGKILL after a share of the steps, counted by the training states, one of which is written after each step."""
    steps = max(1, round(share * STEPS))
    children.kill_when(children.start(_train_slowly, config, tmp_path), lambda: _last_step(tmp_path) >= steps)
    resumed = _train(config, tmp_path, "resume")
    for file in FILES:
        assert (resumed.folder / file).read_bytes() == (trained.folder / file).read_bytes(), file


def _last_step(output):
    """Return the step of the newest state; one listing, because a walk would enter folders that are being renamed."""
    folder = output / "tiny_rd/separate/felt/0/training/felt"
    states = [name for name in os.listdir(folder) if name.startswith("0")] if folder.exists() else []
    return max((int(name.partition(".")[2]) for name in states), default=0)


def _train_slowly(config, output):
    """Train with a pause after each step, so that the parent can kill this process between two steps."""
    from anoframe.training.state import TrainingState

    save = TrainingState.save

    def pausing(self, folder):
        save(self, folder)
        time.sleep(0.1)

    TrainingState.save = pausing
    _train(config, output)


def test_a_run_from_before_the_selection_metric_resumes(selected, config, tmp_path):
    folder = shutil.copytree(selected.folder, tmp_path / selected.folder.relative_to(selected.folder.parents[3]))
    state = json.loads((folder / "run.json").read_text())
    del state["provenance"]["trainer"]["select_metric"]
    (folder / "run.json").write_text(json.dumps(state))
    lines = (folder / "config.yaml").read_text().splitlines(keepends=True)
    (folder / "config.yaml").write_text("".join(line for line in lines if "select_metric" not in line))
    assert _train(config, tmp_path, "resume", **ON_TEST, **{"trainer.epochs": 2}).metrics == selected.metrics
