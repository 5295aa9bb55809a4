"""Runs that stop half-way: what is done is kept, what is not is done, and the result is that of a run left alone."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil

import pytest

import anoframe
from anoframe.config import load_config
from anoframe.errors import AnoframeError
from anoframe.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("one_thread")

CATEGORIES = ["felt", "mesh"]


class Stop(BaseException):
    """Stands for a kill: nothing of the run gets to handle it."""


@pytest.fixture
def folder(run_copy, finished, tmp_path):
    """The finished run where `anoframe.train(..., output=tmp_path)` looks for it."""
    place = tmp_path / finished.folder.relative_to(finished.folder.parents[3])
    shutil.copytree(run_copy, place)
    return place


@pytest.fixture
def train(tiny_config, tmp_path):
    def run(start="new", **overrides):
        return anoframe.train(load_config(tiny_config, overrides), CATEGORIES, tmp_path, start)

    return run


@pytest.fixture
def stop_at(monkeypatch, train):
    """Begins a run that stops at the n-th call of a function of the session."""

    def run(name, call, error=Stop):
        import anoframe.runs.session as session

        original, calls = getattr(session, name), []

        def stopping(*args, **options):
            calls.append(name)
            if len(calls) == call:
                raise error
            return original(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(session, name, stopping)
            with pytest.raises(error):
                train()

    return run


# ------------------------------------------------------------------------------------------------ resuming


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize(
    "where", ["learn", "thresholds", "save_checkpoint", "collect_shared", "category_metrics", "write_category_pictures"]
)
def test_a_stopped_run_resumes_to_the_same_files(stop_at, train, finished, where, call):
    stop_at(where, call)
    resumed = train("resume")
    for file in ("metrics.json", "metrics.csv", "config.yaml", "checkpoint/mesh/learned.safetensors"):
        assert (resumed.folder / file).read_bytes() == (finished.folder / file).read_bytes()


def test_what_is_done_is_not_done_again(folder, train, monkeypatch):
    (folder / "results/mesh.json").unlink()
    (folder / "metrics.json").unlink()
    monkeypatch.setattr("anoframe.runs.session.learn", None)  # neither is learned
    evaluated = []
    monkeypatch.setattr(
        "anoframe.runs.session.Session._tell", lambda self, category, result: evaluated.append(category)
    )
    train("resume")
    assert evaluated == ["mesh"]


def test_a_finished_run_resumes_to_itself(folder, train, finished, monkeypatch):
    monkeypatch.setattr("anoframe.runs.session.collect_shared", None)
    assert train("resume").metrics == finished.metrics


def test_resuming_where_nothing_is_begins(train):
    assert set(train("resume").metrics) == set(CATEGORIES)


def test_a_resumed_run_keeps_its_id(folder, train):
    before = json.loads((folder / "run.json").read_text())["id"]
    train("resume")
    assert json.loads((folder / "run.json").read_text())["id"] == before


def test_a_damaged_checkpoint_is_learned_again(folder, train, finished):
    (folder / "results/mesh.json").unlink()
    (folder / "checkpoint/mesh/learned.safetensors").write_bytes(b"torn")
    resumed = train("resume")
    assert (resumed.folder / "metrics.json").read_bytes() == (finished.folder / "metrics.json").read_bytes()


def test_a_stopped_run_says_that_it_was(stop_at, tmp_path):
    stop_at("collect_shared", 1)
    (state,) = tmp_path.rglob("run.json")
    assert json.loads(state.read_text())["status"] == "interrupted"


def test_damaged_times_are_named_and_the_folder_is_free_again(folder, train):
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
def test_what_changes_no_result_may_change(folder, train, name, value):
    assert set(train("resume", **{name: value}).metrics) == set(CATEGORIES)


def test_another_config_is_refused_by_its_key(folder, train):
    with pytest.raises(AnoframeError, match=r"model\.sigma was 4\.0 and is 2\.0"):
        train("resume", **{"model.sigma": 2.0})


def test_another_version_is_refused_by_its_name(folder, train):
    state = json.loads((folder / "run.json").read_text())
    state["provenance"]["versions"]["torch"] = "2.0.0"
    (folder / "run.json").write_text(json.dumps(state))
    with pytest.raises(AnoframeError, match=r"versions\.torch was '2\.0\.0'"):
        train("resume")


@pytest.mark.parametrize("unfinished", [True, False])
def test_a_folder_with_a_run_asks_for_one_of_three(folder, train, unfinished):
    if unfinished:
        (folder / "metrics.json").unlink()
    with pytest.raises(AnoframeError, match=r"--resume.*--output.*--overwrite"):
        train()


def test_a_start_that_is_none_is_told(train):
    with pytest.raises(AnoframeError, match="start is one of new, resume, overwrite, got 'again'"):
        train("again")


# ------------------------------------------------------------------------------------------------ one writer


def test_a_second_run_on_a_folder_is_refused_with_the_first_ones_id(folder, train, finished):
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
    import anoframe.runs.session as session

    original = session.category_metrics

    def failing(found, *args):
        if found.samples[0].category == "mesh":
            raise ValueError("no good")
        return original(found, *args)

    with monkeypatch.context() as patch:
        patch.setattr(session, "category_metrics", failing)
        yield patch


def test_a_failing_category_does_not_lose_the_others(mesh_fails, train, finished):
    run = train()
    assert run.failed == {"mesh": "ValueError: no good"}
    assert run.metrics == {"felt": finished.metrics["felt"]}


def test_a_failure_is_in_the_metrics_file(mesh_fails, train):
    tree = json.loads((train().folder / "metrics.json").read_text())
    assert tree["provenance"]["failed"] == {"mesh": "ValueError: no good"}


def test_a_failed_category_is_tried_again(mesh_fails, train, finished):
    train()
    mesh_fails.undo()
    run = train("resume")
    assert (run.folder / "metrics.json").read_bytes() == (finished.folder / "metrics.json").read_bytes()


def test_the_command_line_ends_with_status_1_for_a_failure(mesh_fails, cli, tiny_config, tmp_path):
    done = cli("--config", tiny_config, "--cls_names", "all", "--output", tmp_path)
    assert done.status == 1
    assert "failed: mesh: ValueError: no good" in done.err


def test_where_everything_fails_the_reason_is_raised(monkeypatch, train):
    def failing(*args, **options):
        raise AnoframeError("nothing works")

    monkeypatch.setattr("anoframe.runs.session.learn", failing)
    with pytest.raises(AnoframeError, match="nothing works"):
        train()


def test_a_full_disk_stops_the_run_and_says_how_to_go_on(monkeypatch, train):
    def full(path, data, sync=True):
        if path.name == "learned.safetensors":
            raise OSError(28, "No space left on device")
        return original(path, data, sync)

    import anoframe.utils.files

    original = anoframe.utils.files.replace_file
    with monkeypatch.context() as patch:
        patch.setattr("anoframe.utils.files.replace_file", full)
        with pytest.raises(AnoframeError, match=r"No space left on device.*--resume"):
            train()
    assert set(train("resume").metrics) == set(CATEGORIES)


def test_a_torn_log_goes_on_with_whole_lines(folder, train):
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"event": "sta')
    train("resume")
    lines = (folder / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[lines.index('{"event": "sta') + 1])["event"] == "run"


# ------------------------------------------------------------------------------------------------ kills


def _killed(config: str, output: str, name: str) -> None:
    """A run whose process kills itself, hard, where a function of the session is called."""
    import signal

    import torch

    import anoframe.runs.session as session

    torch.set_num_threads(1)
    setattr(session, name, lambda *args, **options: os.kill(os.getpid(), signal.SIGKILL))
    anoframe.train(load_config(config), CATEGORIES, output)


@pytest.mark.parametrize("where", ["learn", "save_checkpoint", "category_metrics"])
def test_a_killed_process_leaves_what_resumes_to_the_same_metrics(train, tiny_config, tmp_path, finished, where):
    process = multiprocessing.get_context("spawn").Process(
        target=_killed, args=(str(tiny_config), str(tmp_path), where)
    )
    process.start()
    process.join(300)
    assert process.exitcode == -9
    run = train("resume")
    assert (run.folder / "metrics.json").read_bytes() == (finished.folder / "metrics.json").read_bytes()
