"""Seconds and memory of the stages of a run."""

from __future__ import annotations

import json

import pytest

import anoframe
from anoframe.tracking import timing as module
from anoframe.tracking.timing import StageTimer, peak_memory


class Notes:
    def __init__(self):
        self.events = []

    def log(self, event, **fields):
        self.events.append((event, fields))


@pytest.fixture
def notes():
    return Notes()


@pytest.fixture
def clock(notes, monkeypatch):
    """A clock for which every look at the time is one second later than the last."""
    seconds = iter(range(100))
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(seconds)))
    return StageTimer(notes)


def test_a_stage_has_its_seconds(clock):
    with clock.stage("encode"):
        pass
    assert clock.stages["encode"].seconds == 1


def test_seconds_of_one_stage_add_up(clock):
    for _ in range(3):
        with clock.stage("encode"):
            pass
    assert clock.stages["encode"].seconds == 3


def test_stages_are_in_the_order_of_their_start(clock):
    for name in ("encode", "conclude", "encode"):
        with clock.stage(name):
            pass
    assert list(clock.stages) == ["encode", "conclude"]


def test_each_stage_is_told(clock, notes):
    with clock.stage("encode"):
        pass
    ((event, fields),) = notes.events
    assert (event, fields["name"], fields["seconds"]) == ("stage", "encode", 1)


def test_memory_is_that_of_a_process():
    assert 2**20 < peak_memory() < 2**45


def test_a_run_says_its_stages(finished):
    stages = json.loads((finished.folder / "run.json").read_text())["stages"]
    assert list(stages) == ["build", "encode", "conclude", "threshold", "save", "predict", "measure", "draw"]
    assert all(stage["peak_bytes"] > 0 for stage in stages.values())


def test_the_columns_of_the_timetable_stand_below_each_other(run_copy):
    path = run_copy / "run.json"
    state = json.loads(path.read_text())
    state["stages"]["reconstruction"] = state["stages"]["save"]
    path.write_text(json.dumps(state))
    head, *rows = anoframe.load_run(run_copy).timetable().splitlines()
    end = head.index("seconds") + len("seconds") - 2
    assert {row[end - 2] for row in rows} == {"."}


def test_the_timetable_has_a_line_a_stage(finished):
    stages = json.loads((finished.folder / "run.json").read_text())["stages"]
    assert [line.split()[0] for line in finished.timetable().splitlines()] == ["stage", *stages]
