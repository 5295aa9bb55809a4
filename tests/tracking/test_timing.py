"""Seconds and memory of the stages of a run."""

from __future__ import annotations

import json

import pytest

import anoframe
from anoframe.tracking import timing
from anoframe.tracking.timing import StageTimer, peak_memory


@pytest.fixture
def timer(recorder, monkeypatch):
    """A timer whose clock advances by one second at each reading."""
    seconds = iter(range(100))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(seconds)))
    return StageTimer(recorder)


def test_stage_has_its_duration(timer):
    with timer.stage("encode"):
        pass
    assert timer.stages["encode"].seconds == 1


def test_durations_of_a_stage_add_up(timer):
    for _ in range(3):
        with timer.stage("encode"):
            pass
    assert timer.stages["encode"].seconds == 3


def test_stages_are_in_the_order_of_their_first_start(timer):
    for name in ("encode", "conclude", "encode"):
        with timer.stage(name):
            pass
    assert list(timer.stages) == ["encode", "conclude"]


def test_each_stage_is_logged(timer, recorder):
    with timer.stage("encode"):
        pass
    ((event, fields),) = recorder.events
    assert (event, fields["name"], fields["seconds"]) == ("stage", "encode", 1)


def test_peak_memory_has_the_size_of_a_process():
    assert 2**20 < peak_memory() < 2**45


def test_run_json_has_the_stages(finished):
    stages = json.loads((finished.folder / "run.json").read_text())["stages"]
    assert list(stages) == ["build", "encode", "coreset", "threshold", "save", "predict", "measure", "draw"]
    assert all(stage["peak_bytes"] > 0 for stage in stages.values())


def test_columns_of_the_timetable_are_aligned(run_copy):
    path = run_copy / "run.json"
    state = json.loads(path.read_text())
    state["stages"]["reconstruction"] = state["stages"]["save"]
    path.write_text(json.dumps(state))
    head, *rows = anoframe.load_run(run_copy).timetable().splitlines()
    end = head.index("seconds") + len("seconds") - 2
    assert {row[end - 2] for row in rows} == {"."}


def test_timetable_has_one_line_per_stage(finished):
    stages = json.loads((finished.folder / "run.json").read_text())["stages"]
    assert [line.split()[0] for line in finished.timetable().splitlines()] == ["stage", *stages]
