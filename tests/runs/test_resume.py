"""Interrupted runs: finished work is kept, the rest is done, and the result is that of an uninterrupted run."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal

import children
import pytest

import anoframe
from anoframe.config import load_config
from anoframe.errors import AnoframeError
from anoframe.runs.folder import FORMAT, RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

CATEGORIES = ["felt", "mesh"]
FUNCTIONS = [  # in the order of a run
    "anoframe.runs.fitting.fit_learner",
    "anoframe.runs.fitting.score_held_back",
    "anoframe.runs.fitting.save_checkpoint",
    "anoframe.runs.evaluating.collect_distributed",
    "anoframe.evaluation.anomaly.category_metrics",
    "anoframe.runs.evaluating.write_category_pictures",
]


class Stop(BaseException):
    """Stands for a kill: no `except Exception` of the run handles it."""


@pytest.fixture
def folder(run_copy, finished, tmp_path):
    """A copy of the finished run where `anoframe.train(..., output=tmp_path)` looks for it."""
    path = tmp_path / finished.folder.relative_to(finished.folder.parents[3])
    shutil.copytree(run_copy, path)
    return path


@pytest.fixture
def train(tiny_config, tmp_path):
    def run(start="new", **overrides):
        return anoframe.train(load_config(tiny_config, overrides), CATEGORIES, tmp_path, start)

    return run


def change_state(folder, **changes):
    """Change entries of `run.json`; None removes one."""
    state = json.loads((folder / "run.json").read_text()) | changes
    state = {key: value for key, value in state.items() if value is not None}
    (folder / "run.json").write_text(json.dumps(state))


def resolve(name):
    """Return module and attribute of a dotted name."""
    import importlib

    module, _, attribute = name.rpartition(".")
    return importlib.import_module(module), attribute


@pytest.fixture
def stop_at(monkeypatch, train):
    """Begins a run that stops at the n-th call of a function."""

    def run(name, call):
        module, attribute = resolve(name)
        original, calls = getattr(module, attribute), []

        def stopping(*args, **options):
            calls.append(name)
            if len(calls) == call:
                raise Stop
            return original(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(module, attribute, stopping)
            with pytest.raises(Stop):
                train()

    return run


# ------------------------------------------------------------------------------------------------ resuming


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_stopped_run_resumes_to_the_same_files(stop_at, train, finished, function, call):
    stop_at(function, call)
    resumed = train("resume")
    for file in ("metrics.json", "metrics.csv", "config.yaml", "checkpoint/mesh/learned.safetensors"):
        assert (resumed.folder / file).read_bytes() == (finished.folder / file).read_bytes()


def test_finished_work_is_not_repeated(folder, train, monkeypatch):
    (folder / "results/mesh.json").unlink()
    (folder / "metrics.json").unlink()
    monkeypatch.setattr("anoframe.runs.fitting.fit_learner", None)  # both detectors are trained already
    evaluated = []
    monkeypatch.setattr(
        "anoframe.runs.evaluating.Evaluator._log_metrics", lambda self, category, *rest: evaluated.append(category)
    )
    train("resume")
    assert evaluated == ["mesh"]


def test_a_finished_run_resumes_to_the_same_metrics(folder, train, finished, monkeypatch):
    monkeypatch.setattr("anoframe.runs.evaluating.collect_distributed", None)
    assert train("resume").metrics == finished.metrics


def test_resume_without_an_earlier_run_begins_one(train):
    assert set(train("resume").metrics) == set(CATEGORIES)


def test_a_resumed_run_keeps_its_id(folder, train):
    before = json.loads((folder / "run.json").read_text())["id"]
    train("resume")
    assert json.loads((folder / "run.json").read_text())["id"] == before


def test_a_damaged_checkpoint_is_trained_again(folder, train, finished):
    (folder / "results/mesh.json").unlink()
    (folder / "checkpoint/mesh/learned.safetensors").write_bytes(b"torn")
    resumed = train("resume")
    assert (resumed.folder / "metrics.json").read_bytes() == (finished.folder / "metrics.json").read_bytes()


def test_a_stopped_run_has_the_status_interrupted(stop_at, tmp_path):
    stop_at("anoframe.runs.evaluating.collect_distributed", 1)
    (state,) = tmp_path.rglob("run.json")
    assert json.loads(state.read_text())["status"] == "interrupted"


def test_damaged_stage_times_are_named_and_release_the_folder(folder, train):
    whole = (folder / "run.json").read_text()
    (folder / "run.json").write_text(whole.replace('"seconds"', '"secnods"'))
    with pytest.raises(AnoframeError, match=r"run\.json.*secnods"):
        train("resume")
    (folder / "run.json").write_text(whole)
    assert set(train("resume").metrics) == set(CATEGORIES)


@pytest.mark.parametrize("content", ["", '{"metrics": {}}', "[]"])
def test_a_damaged_result_is_evaluated_again(folder, train, finished, content):
    (folder / "results/mesh.json").write_text(content)
    resumed = train("resume")
    assert (resumed.folder / "metrics.json").read_bytes() == (finished.folder / "metrics.json").read_bytes()


@pytest.mark.parametrize(("name", "value"), [("data.workers", 1), ("report.pictures", 3), ("cache.max_gb", 1.0)])
def test_keys_that_change_no_result_may_differ(folder, train, name, value):
    assert set(train("resume", **{name: value}).metrics) == set(CATEGORIES)


@pytest.mark.parametrize(
    ("name", "before", "now"),
    [("model.sigma", "4.0", 2.0), ("threshold.held_back", "0.2", 0.3), ("data.batch_size", "16", 8)],
)
def test_another_config_is_refused_with_the_key(folder, train, name, before, now):
    with pytest.raises(AnoframeError, match=re.escape(f"{name} was {before} and is {now}")):
        train("resume", **{name: now})


def test_another_version_is_refused_with_the_package(folder, train):
    state = json.loads((folder / "run.json").read_text())
    state["provenance"]["versions"]["torch"] = "2.0.0"
    change_state(folder, provenance=state["provenance"])
    with pytest.raises(AnoframeError, match=r"versions\.torch was '2\.0\.0'"):
        train("resume")


def test_a_new_run_folder_has_the_format_number(finished):
    assert json.loads((finished.folder / "run.json").read_text())["format"] == FORMAT == 2


@pytest.mark.parametrize(("number", "shown"), [(None, 1), (1, 1), (3, 3)])
def test_a_folder_of_another_format_is_not_resumed(folder, train, number, shown):
    change_state(folder, format=number)
    with pytest.raises(AnoframeError) as error:
        train("resume")
    assert str(error.value) == (
        f"{folder} was written by another version of anoframe (run format {shown}, this version reads 2): "
        "start again with --overwrite, or choose another --output"
    )


def test_a_folder_of_another_format_is_loaded_and_overwritten(folder, train, finished):
    change_state(folder, format=None)
    assert anoframe.load_run(folder).metrics == finished.metrics
    assert train("overwrite").metrics == finished.metrics


def test_overwriting_keeps_no_result_of_the_earlier_run(folder, train, finished):
    result = folder / "results" / "felt.json"
    tree = json.loads(result.read_text())
    tree["metrics"]["image_auroc"] = 0.123
    result.write_text(json.dumps(tree))
    assert train("overwrite").metrics == finished.metrics


def test_a_state_that_is_no_object_is_damaged(folder, train):
    (folder / "run.json").write_text("[]")
    with pytest.raises(AnoframeError, match=r"run\.json is damaged: start again with --overwrite"):
        train("resume")


@pytest.mark.parametrize("is_unfinished", [True, False])
def test_a_folder_with_a_run_names_the_three_options(folder, train, is_unfinished):
    if is_unfinished:
        (folder / "metrics.json").unlink()
    with pytest.raises(AnoframeError, match=r"--resume.*--output.*--overwrite"):
        train()


def test_an_unknown_start_is_refused(train):
    with pytest.raises(AnoframeError, match="start is one of new, resume, overwrite, got 'again'"):
        train("again")


# ------------------------------------------------------------------------------------------------ one writer


def test_a_second_run_on_a_folder_is_refused_with_the_id_of_the_first(folder, train, finished):
    state = json.loads((folder / "run.json").read_text())
    first = RunFolder(folder, finished.config, state["provenance"], "resume")
    with pytest.raises(AnoframeError, match=f"is in use by run {first.id}"):
        train("resume")
    first.release()
    train("resume")


# ------------------------------------------------------------------------------------------------ failures


@pytest.fixture
def mesh_fails(monkeypatch):
    """Makes measuring the second category fail, until it is undone."""
    module, attribute = resolve("anoframe.evaluation.anomaly.category_metrics")
    original = getattr(module, attribute)

    def failing(predictions, *args):
        if predictions.samples[0].category == "mesh":
            raise ValueError("no good")
        return original(predictions, *args)

    with monkeypatch.context() as patch:
        patch.setattr(module, attribute, failing)
        yield patch


def test_a_failed_category_does_not_affect_the_others(mesh_fails, train, finished):
    """It is named in the run and in metrics.json, and resuming tries it again."""
    run = train()
    assert run.failed == {"mesh": "ValueError: no good"}
    assert run.metrics == {"felt": finished.metrics["felt"]}
    tree = json.loads((run.folder / "metrics.json").read_text())
    assert tree["provenance"]["failed"] == {"mesh": "ValueError: no good"}
    assert json.loads((run.folder / "run.json").read_text())["status"] == "failed"
    mesh_fails.undo()
    run = train("resume")
    assert (run.folder / "metrics.json").read_bytes() == (finished.folder / "metrics.json").read_bytes()


def test_all_categories_of_a_failed_fit_are_named(monkeypatch, train, tmp_path):
    def fail(*args):
        raise AnoframeError("no fit")

    monkeypatch.setattr("anoframe.runs.fitting.fit_learner", fail)
    with pytest.raises(AnoframeError, match="no fit"):
        train(**{"protocol.name": "unified"})
    (path,) = tmp_path.rglob("run.json")
    assert json.loads(path.read_text())["failed"] == {"felt": "no fit", "mesh": "no fit"}


def test_the_command_line_returns_1_for_a_failed_category(mesh_fails, cli, tiny_config, tmp_path):
    done = cli("--config", tiny_config, "--cls_names", "all", "--output", tmp_path)
    assert done.status == 1
    assert "failed: mesh: ValueError: no good" in done.err


def test_if_every_category_fails_the_first_error_is_raised(monkeypatch, train):
    def failing(*args, **options):
        raise AnoframeError("nothing works")

    monkeypatch.setattr("anoframe.runs.fitting.fit_learner", failing)
    with pytest.raises(AnoframeError, match="nothing works"):
        train()


def test_a_full_disk_ends_a_run_that_resumes_later(monkeypatch, train):
    def full(path, data, sync=True):
        if path.name == "learned.safetensors":
            raise OSError(28, "No space left on device")
        return original(path, data, sync)

    module, attribute = resolve("anoframe.utils.files.replace_file")
    original = getattr(module, attribute)
    with monkeypatch.context() as patch:
        patch.setattr(module, attribute, full)
        with pytest.raises(AnoframeError, match=r"learned.safetensors: No space left on device. Free space"):
            train()
    assert set(train("resume").metrics) == set(CATEGORIES)


def test_a_torn_log_continues_on_a_new_line(folder, train):
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"event": "sta')
    train("resume")
    lines = (folder / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[lines.index('{"event": "sta') + 1])["event"] == "run"


# ------------------------------------------------------------------------------------------------ kills


def _killed(config: str, output: str, name: str) -> None:
    """Train in a process that sends SIGKILL to itself where a function is called."""
    import torch

    module, attribute = resolve(name)
    torch.set_num_threads(1)
    setattr(module, attribute, lambda *args, **options: os.kill(os.getpid(), signal.SIGKILL))
    anoframe.train(load_config(config), CATEGORIES, output)


@pytest.mark.parametrize(
    "function",
    [
        "anoframe.runs.fitting.fit_learner",
        "anoframe.runs.fitting.save_checkpoint",
        "anoframe.evaluation.anomaly.category_metrics",
    ],
)
def test_a_killed_process_resumes_to_the_same_metrics(train, tiny_config, tmp_path, finished, function):
    child = children.start(_killed, str(tiny_config), str(tmp_path), function)
    child.join(children.SECONDS)
    assert child.exitcode == -signal.SIGKILL
    run = train("resume")
    assert (run.folder / "metrics.json").read_bytes() == (finished.folder / "metrics.json").read_bytes()
