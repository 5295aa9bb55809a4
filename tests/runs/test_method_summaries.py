"""What a method reports about its learned state: events, console lines, result files and rows of a stream."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO

import pytest
from tiny_data import TINY_DATA
from toy_method import CONFIG

import anoframe
from anoframe.config import load_config

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES = 6  # training images of each category


@pytest.fixture(scope="module")
def config(tmp_path_factory, tiny_root):
    path = tmp_path_factory.mktemp("configs") / "means.py"
    path.write_text(CONFIG.format(common=TINY_DATA.format(root=str(tiny_root))), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    """Trains with some protocol, once for all tests; returns the run and what the console shows."""
    finished = {}

    def train(protocol, strategy="native", method="TaskMeans"):
        key = protocol, strategy, method
        if key not in finished:
            names = {"protocol.name": protocol, "protocol.strategy": strategy}
            cfg = load_config(config, {**names, "model.name": f"toy_method:{method}"})
            with redirect_stdout(StringIO()) as console:
                done = anoframe.train(cfg, ["felt", "mesh"], tmp_path_factory.mktemp("runs"))
            finished[key] = done, console.getvalue()
        return finished[key]

    return train


def events(run, *names):
    lines = (json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] in names]


def summary_after(tasks):
    """Return the JSON of the summary of a detector with `tasks` means."""
    counts = [IMAGES] * tasks
    table = {"name": "means", "title": "Means", "columns": ["task", "images"], "note": "", "shaded": False}
    return {
        "scalars": {"means/total": tasks},
        "tables": [{**table, "rows": [list(row) for row in enumerate(counts)]}],
        "series": [{"name": "images", "points": [list(point) for point in enumerate(counts)], "x_label": "task"}],
        "message": f"{tasks} means",
        "config_records": {"mean_config": {"level": 2}},
        "task_records": {"mean_stats": {"count": tasks}},
        "stream_records": {"means": counts},
    }


def test_a_row_of_a_stream_has_the_summary_after_its_task(run):
    folder = run("continual")[0].folder / "results/stream"
    rows = [json.loads((folder / f"task_{task:02d}.json").read_text()) for task in (0, 1)]
    assert [row["about"]["summary"] for row in rows] == [summary_after(1), summary_after(2)]
    assert [set(row["about"]) for row in rows] == [{"seconds", "params_total", "params_trainable", "summary"}] * 2


def test_messages_are_logged_after_the_stage_and_the_summary_after_the_evaluation(run):
    log = events(run("continual")[0], "fit", "method_message", "checkpoint", "method_summary", "stream")
    assert [line["event"] for line in log] == ["fit", "method_message", "checkpoint", "method_summary", "stream"] * 2
    assert [line["text"] for line in log if line["event"] == "method_message"] == [
        "mean 0 of 6 images",
        "mean 1 of 6 images",
    ]
    summaries = [line for line in log if line["event"] == "method_summary"]
    for task, line in enumerate(summaries):
        assert (line["fit"], line["task"]) == (f"task_{task:02d}", task)
        assert {key: line[key] for key in summary_after(1)} == summary_after(task + 1)


def test_the_console_shows_messages_and_summaries_of_a_stream(run):
    lines = [line.strip() for line in run("continual")[1].splitlines()]
    reports = ["mean 0 of 6 images", "1 means", "mean 1 of 6 images", "2 means"]
    assert [line for line in lines if line in reports] == reports


def test_without_a_stream_the_result_of_each_category_has_the_summary(run):
    done = run("separate")[0]
    results = [json.loads((done.folder / f"results/{name}.json").read_text()) for name in ("felt", "mesh")]
    assert [result["method_summary"] for result in results] == [summary_after(1)] * 2
    log = events(done, "method_summary")
    assert [(line["fit"], line["task"]) for line in log] == [("felt", None), ("mesh", None)]


def test_a_stream_has_no_summary_in_the_results_of_categories(run):
    folder = run("continual")[0].folder
    assert "method_summary" not in json.loads((folder / "results/mesh.json").read_text())


def test_a_method_that_reports_nothing_leaves_no_key_and_no_event(run):
    done = run("separate", method="SilentMeans")[0]
    assert "method_summary" not in json.loads((done.folder / "results/mesh.json").read_text())
    assert events(done, "method_summary", "method_message") == []


def test_the_old_name_of_the_strategy_native_still_works(run):
    old, new = run("continual", "expand")[0], run("continual")[0]
    assert old.folder.parts[-4:] == new.folder.parts[-4:] == ("means", "continual-native", "felt+mesh", "0")
    for name in ("metrics.json", "config.yaml"):
        assert (old.folder / name).read_bytes() == (new.folder / name).read_bytes()
    assert old.results.provenance["stream"]["strategy"] == old.stream["config"]["strategy"] == "native"
    assert old.config.protocol.strategy == load_config(old.folder).protocol.strategy == "native"


def test_the_strategy_finetune_of_a_continual_method_reports_as_well(run):
    log = events(run("continual", "finetune")[0], "method_summary")
    assert [line["message"] for line in log] == ["1 means", "2 means"]
