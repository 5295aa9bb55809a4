"""Cells that wait, run, end, and die."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from anoframe.grid.scheduler import RETRIES, Board
from anoframe.report.grid_table import Failure


@dataclass(frozen=True)
class Stub:
    """What a board asks of a cell."""

    name: str
    done: bool = False
    categories: tuple[str, ...] = ("felt",)

    def is_done(self):
        return self.done


@pytest.fixture
def board():
    with Board([Stub("a"), Stub("b"), Stub("c", done=True)]) as made:
        yield made


def test_cells_that_are_done_do_not_wait(board):
    assert [board.take().name, board.take().name, board.take()] == ["a", "b", None]


def test_a_cell_that_runs_is_unfinished(board):
    cell = board.take()
    assert board.unfinished == 2
    board.ended(cell, {})
    assert board.unfinished == 1


def test_a_failure_is_kept_and_not_tried_again(board):
    board.ended(board.take(), {"felt": "no images"})
    assert board.failures == [Failure("a", "no images")]
    assert board.take().name == "b"


def test_a_category_that_failed_is_named():
    with Board([Stub("a", categories=("felt", "mesh"))]) as board:
        board.ended(board.take(), {"mesh": "no images"})
    assert board.failures == [Failure("a, mesh", "no images")]


def test_a_cell_that_died_is_tried_again_after_the_others(board):
    board.died(board.take(), "killed by signal 9")
    assert [board.take().name, board.take().name] == ["b", "a"]
    assert board.failures == []


def test_a_cell_that_always_dies_is_given_up():
    with Board([Stub("a")]) as board:
        for _ in range(RETRIES + 1):
            board.died(board.take(), "killed by signal 9")
        assert board.take() is None
    assert board.failures == [Failure("a", "its process died 3 times, the last time: killed by signal 9")]
