"""Cells that wait, run, end, and crash."""

from __future__ import annotations

import pytest
from stub_cells import StubCell

from anoframe.grid.scheduler import MAX_RETRIES, Scheduler
from anoframe.report.grid_table import Failure


@pytest.fixture
def scheduler():
    with Scheduler([StubCell("a"), StubCell("b"), StubCell("c", done=True)]) as opened:
        yield opened


def test_finished_cells_are_skipped(scheduler):
    assert [scheduler.next_cell().name, scheduler.next_cell().name, scheduler.next_cell()] == ["a", "b", None]


def test_running_cells_count_as_unfinished(scheduler):
    cell = scheduler.next_cell()
    assert scheduler.num_unfinished == 2
    scheduler.finish(cell, {})
    assert scheduler.num_unfinished == 1


def test_failed_cell_is_recorded_and_not_retried(scheduler):
    scheduler.finish(scheduler.next_cell(), {"felt": "no images"})
    assert scheduler.failures == [Failure("a", "no images")]
    assert scheduler.next_cell().name == "b"


def test_failed_category_is_named():
    with Scheduler([StubCell("a", categories=("felt", "mesh"))]) as scheduler:
        scheduler.finish(scheduler.next_cell(), {"mesh": "no images"})
    assert scheduler.failures == [Failure("a, mesh", "no images")]


def test_crashed_cell_is_retried_after_the_others(scheduler):
    scheduler.record_crash(scheduler.next_cell(), "killed by signal 9")
    assert [scheduler.next_cell().name, scheduler.next_cell().name] == ["b", "a"]
    assert scheduler.failures == []


def test_cell_that_always_crashes_fails():
    with Scheduler([StubCell("a")]) as scheduler:
        for _ in range(MAX_RETRIES + 1):
            scheduler.record_crash(scheduler.next_cell(), "killed by signal 9")
        assert scheduler.next_cell() is None
    assert scheduler.failures == [Failure("a", "its process died 3 times, last: killed by signal 9")]
